//! Says on stderr what happens, for people or as JSON.

mod board;
mod coordinators;
mod facts;

use std::{
    io::{self, IsTerminal as _},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use p2pconnect::{Connection, DialError, PeerId, PunchReport, Refusal, Role, Status, Verdict};
use p2pconnect_proto::is_global;
use serde_json::{Value, json};

use self::facts::{Facts, Failure, fact, intercepted};
use crate::{
    evidence,
    exit::{self, Exit},
    hint::{Router, hint},
    pump::Transferred,
    signals::{self, Signal},
    stderr, stdio,
    words::{escaped, in_tenths, with_causes},
};

/// Says on stderr what happens: lines for people, or JSON objects for programs.
#[derive(Debug, Clone)]
pub(crate) struct Reporter(Arc<Settings>);

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Volume {
    /// Nothing but what is wrong with the command line.
    Quiet,
    /// What happens until there is a stream, and what ends it.
    Usual,
    /// All that happens.
    Verbose,
}

#[derive(Debug)]
struct Settings {
    json: bool,
    volume: Volume,
    started: Instant,
    /// Whether the terminal belongs to a stream by now, and not to this command.
    streaming: AtomicBool,
    /// Whether the last word has been said. Whoever says something holds it, so that nothing comes
    /// behind that.
    over: Mutex<bool>,
    is_terminal: bool,
    /// How many introductions this side has asked for and been given.
    rounds: AtomicU32,
    router: Mutex<Router>,
    facts: Mutex<Facts>,
}

impl Reporter {
    pub(crate) fn new(json: bool, volume: Volume, started: Instant) -> Self {
        if json {
            stderr::speak_json();
        }
        Self(Arc::new(Settings {
            json,
            volume,
            started,
            streaming: AtomicBool::new(false),
            over: Mutex::new(false),
            is_terminal: io::stderr().is_terminal(),
            rounds: AtomicU32::new(0),
            router: Mutex::new(Router::Silent),
            facts: Mutex::default(),
        }))
    }

    /// Says no more than what ends the stream from now on, unless all is wanted: a full-screen
    /// program may have the terminal, at the other end of the stream.
    pub(crate) fn stream_begins(&self) {
        self.0.streaming.store(true, Ordering::Relaxed);
    }

    /// Returns how many introductions this side has asked for and been given.
    pub(crate) fn introductions(&self) -> u32 {
        self.0.rounds.load(Ordering::Relaxed)
    }

    /// Takes note that the router is not asked to forward ports.
    pub(crate) fn no_port_mapping(&self) {
        self.set_router(Router::Unasked);
    }

    fn set_router(&self, router: Router) {
        *self.0.router.lock().unwrap_or_else(PoisonError::into_inner) = router;
    }

    /// Reports what the endpoint is doing.
    pub(crate) fn status(&self, status: &Status) {
        if fact(status).is_some_and(|fact| self.is_known(fact)) {
            return;
        }
        self.facts().note(status);
        match status {
            Status::Mapped {
                local,
                mapped,
                server,
            } => self.say(
                "mapped",
                &json!({ "local": local, "mapped": mapped, "server": server }),
                &format!("{local} is seen as {mapped} by the STUN server {server}"),
            ),
            Status::MappingChanged { local, old, new } => self.say(
                "mapped",
                &json!({ "local": local, "mapped": new, "old": old }),
                &format!("{local} is now seen as {new}, before as {old}"),
            ),
            Status::PortMapped {
                local,
                external,
                protocol,
            } => self.port_mapped(local, external, &protocol.to_string()),
            Status::Registered => {
                self.say("registered", &json!({}), "this machine can be dialled now");
            }
            Status::NatFound { report } => self.say(
                "nat-found",
                &json!({ "local_nat": evidence::nat_fields(report) }),
                &self.facts().what_is_here(report),
            ),
            Status::FirewallBans { server } => self.firewall_bans(*server),
            Status::SeenInside { address } => self.seen_inside(*address),
            Status::Intercepted { issuer } => {
                let fields = json!({ "issuer": issuer });
                self.say("intercepted", &fields, &intercepted(issuer));
            }
            Status::CoordinatorLost { reason } => self.coordinator_lost(reason),
            Status::CoordinatorUnreachable { reason } => self.coordinator_unreachable(reason),
            Status::CoordinatorKeyChanged {
                former,
                coordinator,
            } => self.coordinator_key_changed(former, coordinator),
            Status::Introduced { peer, role } => self.introduced(peer, *role),
            Status::Punching {
                peer,
                candidates,
                rtt_via_coordinator,
            } => self.punching(peer, *candidates, *rtt_via_coordinator),
            Status::DialRefused { peer, refusal } => self.refused(peer, refusal),
            Status::PeerBusy { peer } => self.busy(peer),
            Status::PunchFailed {
                peer,
                reason,
                report,
            } => self.punch_failed(peer, reason, report.as_deref()),
            _ => {}
        }
    }

    /// Notes what people are told, and tells whether they have been told it in an earlier attempt.
    fn is_known(&self, fact: String) -> bool {
        let mut facts = self.facts();
        let is_known = !facts.told.insert(fact) && facts.is_repeated;
        is_known && !self.0.json && self.0.volume < Volume::Verbose
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        let facts = self.0.facts.lock();
        facts.unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, peer: &PeerId, refusal: &Refusal) {
        self.say(
            "refused",
            &json!({ "peer": peer.to_string(), "reason": refusal.to_string() }),
            &format!(
                "the coordinator refuses to introduce {peer} for now: {refusal}; it is asked again until it does, \
                 or the time is over"
            ),
        );
    }

    fn busy(&self, peer: &PeerId) {
        self.say(
            "busy",
            &json!({ "peer": peer.to_string() }),
            &format!(
                "{peer} is busy: it has no room for another stream; asking again until there is, or the time is over"
            ),
        );
    }

    fn introduced(&self, peer: &PeerId, role: Role) {
        if role == Role::Controlling {
            self.0.rounds.fetch_add(1, Ordering::Relaxed);
        }
        self.say_of_round(
            "introduced",
            &json!({ "peer": peer.to_string() }),
            &format!("the coordinator introduces {peer}"),
        );
    }

    fn punching(&self, peer: &PeerId, candidates: usize, rtt_via_coordinator: Duration) {
        self.say_of_round(
            "punching",
            &json!({
                "peer": peer.to_string(),
                "candidates": candidates,
                "relayed_rtt_ms": millis(rtt_via_coordinator),
            }),
            &match candidates {
                0 => "waiting for the peer, of which no address is known that can be connected to"
                    .to_owned(),
                1 => "connecting to an address of the peer, which does the same".to_owned(),
                _ => {
                    format!("connecting to {candidates} addresses of the peer, which does the same")
                }
            },
        );
    }

    /// Says what each round of a dial begins with. People have read it after the first one.
    fn say_of_round(&self, event: &str, fields: &Value, sentence: &str) {
        let settings = &self.0;
        let is_first = self.introductions() <= 1;
        if is_first || settings.json || settings.volume == Volume::Verbose {
            self.say(event, fields, sentence);
        }
    }

    fn firewall_bans(&self, server: IpAddr) {
        self.say(
            "firewall-bans",
            &json!({ "server": server.to_string() }),
            &format!(
                "a firewall here seems to ban, for a while, whoever it does not expect: the STUN server \
                 {server}, which tried what gets in, is not heard any more. An exception there for \
                 that address keeps this machine reachable"
            ),
        );
    }

    fn seen_inside(&self, address: IpAddr) {
        self.say(
            "seen-inside",
            &json!({ "address": address }),
            &format!(
                "the coordinator sees this machine at {address}, inside a network, so peers that are not in it \
                 cannot be told where this machine is; a coordinator outside that network, on a machine with a \
                 public address, would help"
            ),
        );
    }

    fn port_mapped(&self, local: &SocketAddr, external: &SocketAddr, protocol: &str) {
        self.set_router(if is_global(external.ip()) {
            Router::Forwards
        } else {
            // Peers elsewhere cannot reach the router's address.
            Router::BehindNat
        });
        self.say(
            "port-mapped",
            &json!({ "local": local, "external": external, "protocol": protocol }),
            &format!("the router forwards {external} to {local} ({protocol})"),
        );
    }

    fn punch_failed(&self, peer: &PeerId, reason: &str, report: Option<&PunchReport>) {
        let mut fields = json!({ "peer": peer.to_string(), "reason": reason });
        let mut text = format!("no connection to {peer}: {reason}");
        if let Some(report) = report {
            self.add_evidence(report, &mut fields, &mut text);
            if self.is_like_the_last_failure(peer, report.verdict) {
                text = format!("no connection to {peer} once more, for the same reason");
            }
        }
        self.say("punch-failed", &fields, &text);
    }

    /// Notes a failure, and tells whether people have just read of one like it.
    fn is_like_the_last_failure(&self, peer: &PeerId, verdict: Verdict) -> bool {
        let failure = Failure {
            peer: *peer,
            verdict,
            at: Instant::now(),
        };
        self.facts().is_like_the_last(failure) && self.0.volume < Volume::Verbose
    }

    /// Reports a connection that application bytes can travel on.
    pub(crate) fn established(&self, connection: &Connection) {
        let (peer, path) = (connection.peer_id(), connection.path());
        let times = path.times;
        self.say_over_a_stream(
            "established",
            &json!({
                "peer": peer.to_string(),
                "how": path.how.to_string(),
                "local": path.local,
                "remote": path.remote,
                "kind": evidence::kebab(&path.kind),
                "attempts": path.attempts,
                "redials": path.redials,
                "introduced_ms": millis(times.introduced),
                "tcp_ms": millis(times.tcp),
                "established_ms": millis(times.established),
                "rounds": times.rounds,
            }),
            &format!(
                "direct stream to {peer}: {} from {} to {} (TCP after {:.0} ms, TLS after {:.0} ms)",
                path.how,
                path.local,
                path.remote,
                millis(times.tcp),
                millis(times.established),
            ),
        );
    }

    /// Reports that the peer has ended its bytes, and this side goes on. Whoever types has to end
    /// it, and would wait for the command.
    pub(crate) fn peer_ended(&self, peer: PeerId) {
        let fields = json!({ "peer": peer.to_string() });
        if self.0.is_terminal && io::stdin().is_terminal() {
            let sentence = "the peer has sent everything; Ctrl-D ends this side";
            self.say_over_a_stream("peer-ended", &fields, sentence);
        } else {
            self.say("peer-ended", &fields, "the peer has sent everything");
        }
    }

    /// Reports the end of a stream.
    pub(crate) fn closed(&self, peer: PeerId, Transferred { sent, received }: Transferred) {
        self.say(
            "closed",
            &json!({ "peer": peer.to_string(), "sent": sent, "received": received }),
            &format!(
                "the stream with {peer} has ended: {sent} bytes sent, {received} bytes received"
            ),
        );
    }

    /// Reports how a stream of stdin and stdout has ended, and returns the status that the process
    /// ends with.
    pub(crate) fn stream_ended(&self, peer: PeerId, pumped: anyhow::Result<Transferred>) -> Exit {
        match pumped {
            Ok(transferred) => {
                self.closed(peer, transferred);
                Exit::DONE
            }
            Err(error) => match exit::of_stream(&error) {
                exit::BROKEN => self.failed(exit::BROKEN, &error.context("the stream broke")),
                other => self.failed(other, &error),
            },
        }
    }

    /// Reports that a signal has ended what was not done, and returns the status that the process
    /// ends with.
    pub(crate) fn interrupted(&self, signal: Signal) -> Exit {
        self.failed(exit::INTERRUPTED, &signals::ended_by(signal))
    }

    /// Reports what went wrong, with the causes, and returns the status that the process ends with.
    /// Whoever has ended the command knows, and only programs and those who want all are told.
    pub(crate) fn failed(&self, status: u8, error: &anyhow::Error) -> Exit {
        let settings = &self.0;
        let reason = with_causes(error);
        let mut text = format!("failed: {reason}");
        let mut fields = json!({ "status": status, "reason": reason });
        if let Some(report) = error
            .downcast_ref::<DialError>()
            .and_then(DialError::report)
        {
            self.add_evidence(report, &mut fields, &mut text);
        }
        let mut over = settings.over.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = matches!(status, exit::INTERRUPTED | exit::READER_LEFT);
        if !*over && status == exit::USAGE {
            // As it is said of what clap refuses: nobody can want to miss that.
            if settings.json {
                self.write_always("failed", &fields, &text);
            } else {
                Exit::print(status, error);
            }
        } else if !*over && (!is_known || settings.json || settings.volume == Volume::Verbose) {
            self.write("failed", &fields, &text);
        }
        *over = true;
        Exit(status)
    }

    /// Tells whom a dial waits for, and for how long at most.
    pub(crate) fn wait_begins(&self, peer: &PeerId, limit: Duration) {
        self.say(
            "wait-begins",
            &json!({ "peer": peer.to_string(), "limit_ms": millis(limit) }),
            &format!(
                "waiting for {peer}, {} at most; it is dialled within seconds of being online",
                humantime::format_duration(limit)
            ),
        );
    }

    /// Tells once what an attempt that takes so long at most has not got yet: a connection to the
    /// peer that it has been introduced to, or else the introduction.
    pub(crate) fn unanswered(&self, peer: Option<&PeerId>, limit: Duration) {
        let lacking = match peer {
            // It is known what is in the way.
            Some(_) if self.facts().is_peer_busy => return,
            None if self.facts().is_refused => return,
            Some(_) => "connection",
            None => "introduction",
        };
        let limit_in_words = in_tenths(limit);
        let sentence =
            format!("no {lacking} to the peer yet; this attempt takes {limit_in_words} at most");
        if self.facts().is_news(&sentence) {
            let peer = peer.map(ToString::to_string);
            let fields = json!({ "peer": peer, "limit_ms": millis(limit) });
            self.say("unanswered", &fields, &sentence);
        }
    }

    /// Tells what is waited for before something is tried again, once for each reason.
    pub(crate) fn waiting(&self, error: &anyhow::Error) {
        let reason = with_causes(error);
        let mut facts = self.facts();
        facts.is_repeated = true;
        let is_news = facts.is_news(&reason);
        drop(facts);
        if is_news {
            let sentence = format!("waiting: {reason}");
            self.say("waiting", &json!({ "reason": reason }), &sentence);
        }
    }

    /// Tells of what is meant in another way, most likely, and does no harm.
    pub(crate) fn note(&self, text: &str) {
        self.say("note", &json!({ "text": text }), &format!("note: {text}"));
    }

    /// Tells of a key that was made just now.
    pub(crate) fn key_made(&self, path: &Path, id: &PeerId) {
        self.say(
            "key-made",
            &json!({ "path": path.display().to_string(), "peer": id.to_string() }),
            &format!(
                "a new key was made, {}: this machine is now the peer {id}",
                path.display()
            ),
        );
    }

    /// Adds what was found and tried, and what the people could change.
    fn add_evidence(&self, report: &PunchReport, fields: &mut Value, text: &mut String) {
        extend(fields, &evidence::fields(report));
        for line in evidence::lines(report) {
            text.push_str("\n    ");
            text.push_str(&line);
        }
        let router = *self.0.router.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hint) = hint(router, report) {
            extend(fields, &json!({ "hint": hint }));
            text.push_str("\n    ");
            text.push_str(hint);
        }
    }

    /// Reports that one peer's stream could not be served; the command goes on.
    pub(crate) fn stream_failed(&self, peer: PeerId, error: &anyhow::Error) {
        let reason = with_causes(error);
        self.say(
            "stream-failed",
            &json!({ "peer": peer.to_string(), "reason": reason }),
            &format!("the stream with {peer} ended early: {reason}"),
        );
    }

    fn say(&self, event: &str, fields: &Value, sentence: &str) {
        let settings = &self.0;
        let over = settings.over.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked only now, lest another thread begins the stream meanwhile.
        let is_in_the_way =
            settings.streaming.load(Ordering::Relaxed) && settings.volume < Volume::Verbose;
        if !*over && (!is_in_the_way || settings.json) {
            self.write(event, fields, sentence);
        }
    }

    /// Says what has to be seen though the terminal belongs to a stream.
    fn say_over_a_stream(&self, event: &str, fields: &Value, sentence: &str) {
        let over = self.0.over.lock().unwrap_or_else(PoisonError::into_inner);
        if !*over {
            self.write(event, fields, sentence);
        }
    }

    fn write(&self, event: &str, fields: &Value, sentence: &str) {
        if self.0.volume > Volume::Quiet {
            self.write_always(event, fields, sentence);
        }
    }

    fn write_always(&self, event: &str, fields: &Value, sentence: &str) {
        let settings = &self.0;
        let since_start = settings.started.elapsed();
        let line = if settings.json {
            let mut object = json!({ "event": event, "since_start_ms": millis(since_start) });
            extend(&mut object, fields);
            object.to_string()
        } else {
            let sentence = escaped(sentence);
            let since_start = since_start.as_secs_f64();
            if settings.is_terminal {
                format!("[{since_start:7.3} s] {sentence}")
            } else {
                // In a log, it matters when something happened.
                let now = humantime::format_rfc3339_millis(SystemTime::now());
                format!("{now} [{since_start:7.3} s] {sentence}")
            }
        };
        stdio::say(line);
    }
}

/// Adds fields to an object.
fn extend(object: &mut Value, fields: &Value) {
    if let (Some(object), Some(fields)) = (object.as_object_mut(), fields.as_object()) {
        object.extend(fields.clone());
    }
}

/// Returns milliseconds with three decimals.
pub(crate) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_once_what_each_attempt_finds_out() {
        let local = |port| ([192, 168, 1, 2], port).into();
        let seen_as = |last, port| Status::Mapped {
            local: local(port),
            mapped: ([203, 0, 113, last], port).into(),
            server: local(1),
        };
        for (json, volume, is_told_once) in [
            (false, Volume::Usual, true),
            (false, Volume::Verbose, false),
            (true, Volume::Usual, false),
        ] {
            let reporter = Reporter::new(json, volume, Instant::now());
            let is_known = |status: Status| fact(&status).is_some_and(|it| reporter.is_known(it));
            assert!(!is_known(seen_as(1, 5)) && !is_known(seen_as(1, 6)));
            reporter.waiting(&anyhow::anyhow!("not online"));
            assert_eq!(is_known(seen_as(1, 7)), is_told_once);
            assert!(!is_known(seen_as(2, 8)), "it is elsewhere by now");
        }
    }

    #[test]
    fn a_failure_of_the_same_kind_is_explained_once() {
        let [one, other] = [1, 2].map(|it| PeerId::from_public_key([it; 32]));
        for (volume, is_told_once) in [(Volume::Usual, true), (Volume::Verbose, false)] {
            let reporter = Reporter::new(false, volume, Instant::now());
            let tell = |peer, verdict| reporter.is_like_the_last_failure(peer, verdict);
            assert!(!tell(&one, Verdict::Silent));
            assert_eq!(tell(&one, Verdict::Silent), is_told_once);
            assert!(!tell(&one, Verdict::Refused));
            assert!(!tell(&other, Verdict::Refused));
        }
    }
}
