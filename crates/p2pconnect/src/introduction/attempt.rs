//! Turns introductions into connections.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_host::{clock, shortage};
use p2pconnect_proto::{
    Candidate, CandidateKind, NatReport, Opening, PeerId, PortAssignment, Role, SessionToken,
    message::Introduction,
};
use p2pconnect_punch::{
    Introduced, PunchAgent, PunchConfig, Verdict, discovery_time, is_contended,
};
use tokio::{
    sync::oneshot,
    time::{sleep, sleep_until, timeout},
};

use crate::{
    DialError, Status,
    coordinator::{requests::Coordination, withdrawal::PendingWithdrawal},
    introduction::{
        advertisement::Advertisement,
        circumstances::Circumstances,
        gather::{self, Routes},
        known_families::KnownFamilies,
        recovery::recovery,
        remote_candidates::Vantage,
        shared::Inner,
        staleness::{StalenessCheck, becomes_stale},
    },
    machine::{interfaces::Interfaces, surroundings::Surroundings, task::AbortOnDrop},
    nat::{
        behaviour::{Behaviour, varies},
        discovery,
        mappings::Claims,
        port_sets::PortSetLease,
    },
    session::{
        Decision, Handed, Handover, Lost, Session, SessionError, SharedAddresses, SynGate,
        verify::Verifier,
    },
    stream::{
        coordinated_handshake::CoordinatedHandshake, opened_path::UsablePath, parties::Parties,
        path_ledger::PathLedger, punched::Punched,
    },
};

/// How long [`Endpoint::dial`](crate::Endpoint::dial) tries. Three rounds of four seconds fit,
/// which is more than any path that works has been seen to need.
pub(crate) const DIAL_LIMIT: Duration = Duration::from_secs(15);

/// What an attempt to connect begins with: an introduction, what this side had advertised to the
/// peer, the coordinator that the introduction came from, and the handshake that began with it.
pub(crate) struct Attempt {
    pub(crate) introduction: Introduction,
    pub(crate) advertised: Advertisement,
    pub(crate) coordination: Arc<Coordination>,
    pub(crate) handshake: CoordinatedHandshake,
    /// From where this side looks at the peer's addresses.
    pub(crate) vantage: Vantage,
    /// In which families the two know each other.
    pub(crate) known: KnownFamilies,
    /// The introductions that the dial has used connections of before.
    pub(crate) predecessors: Vec<Opening>,
}

impl Attempt {
    fn begun(&self, is_held: bool) -> Begun {
        let introduction = &self.introduction;
        Begun {
            peer: introduction.peer,
            role: introduction.role,
            started: clock::now(),
            rtt_via_coordinator: Duration::from_micros(introduction.rtt_via_coordinator_us.into()),
            are_apart: self.known.are_apart(),
            is_held,
        }
    }

    /// Returns what shows whether the introduction becomes stale.
    pub(super) fn staleness_check(&self, syn_gate: &SynGate) -> StalenessCheck {
        StalenessCheck {
            session: self.introduction.session,
            advertised: self.advertised.clone(),
            known: self.known,
            witnessed: self.introduction.witnessed,
            role: self.introduction.role,
            peer: self.introduction.nat,
            rtt_via_coordinator: Duration::from_micros(
                self.introduction.rtt_via_coordinator_us.into(),
            ),
            syn_gate: syn_gate.clone(),
        }
    }
}

/// How much longer than a round trip a dialler may take to greet on a connection.
const GREETING: Duration = Duration::from_millis(50);

/// An attempt whose connection is used unconfirmed: how it is known that the connection comes to
/// nothing, how to tell the peer then, and what explains it.
pub(crate) struct UnconfirmedAttempt {
    pub(crate) lost: Lost,
    /// What this side opens its connections with.
    pub(crate) opening: Opening,
    pub(crate) pending: PendingWithdrawal,
    pub(crate) circumstances: Circumstances,
}

/// What is known of an attempt when it begins.
struct Begun {
    peer: PeerId,
    role: Role,
    started: Instant,
    rtt_via_coordinator: Duration,
    /// Whether the two are known to each other in different families.
    are_apart: bool,
    /// Whether nothing is tried, as the dialler is to begin anew.
    is_held: bool,
}

impl Begun {
    /// Returns who connects, this side having that id.
    const fn parties(&self, own: PeerId) -> Parties {
        let Self { peer, role, .. } = *self;
        Parties { own, peer, role }
    }

    /// Returns how the attempt is made, as soon as that is known.
    async fn config(
        &self,
        config: &PunchConfig,
        nats: [&NatReport; 2],
        behaviour: &Behaviour,
    ) -> PunchConfig {
        let mut config = config.clone();
        if self.is_held || !self.may_guess(nats, behaviour).await {
            config.max_guesses = 0;
        }
        config
    }

    /// Tells whether this side may guess the peer's ports. If its own NAT gives each destination
    /// another port, guesses are in vain and may use up what that NAT has, so this is waited for,
    /// if it was not known when the peer was told of this side: for two round trips, after which
    /// the answer is lost. It takes one on a machine that has time; those who go on without it may
    /// leave no port for minutes to the dials that come after.
    ///
    /// Where guesses would be in vain, other attempts have that cost as well, so time is left for
    /// the introduction to become stale.
    async fn may_guess(&self, [own, peer]: [&NatReport; 2], behaviour: &Behaviour) -> bool {
        let is_random = matches!(peer.ports, Some(PortAssignment::Random { .. }));
        if own.mapping.is_some() || !(varies(peer) && is_random) {
            return true;
        }
        let mut reports = behaviour.reports();
        let known = reports.wait_for(|report| report.mapping.is_some());
        if timeout(self.rtt_via_coordinator * 2, known).await.is_err() {
            tracing::debug!("guessing although this side's mapping is not known");
        }
        if !varies(&behaviour.report()) {
            return true;
        }
        sleep(discovery_time(self.rtt_via_coordinator)).await;
        false
    }

    /// Returns the addresses that servers have seen the peer at, if connections of its other
    /// sessions may come from there: a NAT that gives out all of its ports for one of them gives it
    /// those as well. A dialler may not know its NAT yet.
    fn shared_addresses(
        &self,
        candidates: &[Candidate],
        [own, remote]: [&NatReport; 2],
    ) -> SharedAddresses {
        let may_vary = remote.mapping.is_none() && self.role == Role::Controlled;
        let is_seen = |it: &&Candidate| it.kind == CandidateKind::ServerReflexive;
        let seen = candidates.iter().filter(is_seen).map(|it| it.address);
        SharedAddresses {
            addresses: if is_contended([own, remote]) || (varies(own) && may_vary) {
                seen.collect()
            } else {
                BTreeSet::new()
            },
            patience: self.rtt_via_coordinator + GREETING,
        }
    }
}

impl Inner {
    /// Prepares for an introduction: notices whether this machine has moved, and probes a
    /// sequential allocator. If an earlier round has failed, others may have got the ports.
    pub(crate) async fn prepare_round(&self, round: u32) {
        self.mappings.notice_moves().await;
        if round == 1 {
            discovery::probe_before_dial(&self.mappings, &self.behaviour).await;
        } else {
            discovery::probe_again(&self.mappings, &self.behaviour).await;
        }
    }

    /// Returns from where this endpoint looks at the addresses of a peer that a coordinator
    /// introduces.
    fn vantage(
        &self,
        interfaces: &Interfaces,
        coordination: &Coordination,
        seen_together: bool,
    ) -> Vantage {
        let mapped = self.mappings.known();
        let outside = mapped.iter().map(|it| it.mapped.ip());
        Vantage::new(
            Surroundings::new(interfaces, self.nat64.prefix()),
            outside.chain(coordination.observed()),
            coordination.host().ip(),
            seen_together,
        )
    }

    /// Takes in an introduction, with what the peer was told of this side, and what the coordinator
    /// was asked to find out.
    pub(crate) fn attempt(
        &self,
        introduction: Introduction,
        advertised: Advertisement,
        claims: &Claims,
        coordination: Arc<Coordination>,
        handshake: CoordinatedHandshake,
    ) -> Attempt {
        let interfaces = advertised.interfaces.up_to_date();
        let vantage = self.vantage(&interfaces, &coordination, introduction.seen_together);
        let seen = coordination.observed();
        let seen = seen.unwrap_or_else(|| coordination.host().ip());
        let known = KnownFamilies::new(
            &advertised.candidates,
            seen,
            claims.found(introduction.witnessed, seen),
            &introduction.candidates,
            &vantage,
        );
        Attempt {
            introduction,
            advertised,
            coordination,
            handshake,
            vantage,
            known,
            predecessors: Vec::new(),
        }
    }

    /// Returns what hands out the connection to a peer.
    fn handover(
        &self,
        parties: Parties,
        handshake: CoordinatedHandshake,
        decision: Decision,
        predecessors: Vec<Opening>,
    ) -> Handover {
        Handover::new(parties.role, handshake, self.path_ledger(parties.peer))
            .unless(decision)
            .succeeding(predecessors)
            .enduring(self.stream_silence)
    }

    /// Returns the record of the connections to a peer.
    fn path_ledger(&self, peer: PeerId) -> PathLedger {
        PathLedger {
            peer,
            pair_rotation: Arc::clone(&self.pair_rotation),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Makes a connection of an introduction, as the dialler, unless the introduction becomes
    /// stale: then another one is wanted.
    ///
    /// Where no connection comes of the introduction the callee is told, also if the future is
    /// dropped. If the connection is unconfirmed, what is wanted should it come to nothing is
    /// returned with it.
    pub(crate) async fn punch_unless_stale(
        &self,
        attempt: Attempt,
        lease: &PortSetLease,
        syn_gate: SynGate,
        deadline: Instant,
    ) -> Result<(Punched, Option<UnconfirmedAttempt>), DialError> {
        let check = attempt.staleness_check(&syn_gate);
        let mut pending = PendingWithdrawal::new(check.session, attempt.coordination.withdrawals());
        let opening = check.session.opening(Role::Controlling);
        let pause = recovery(&attempt.introduction);
        let own = lease.mappings().unwrap_or(&self.mappings);
        let decision = Decision::default();
        let punching = self.punch(attempt, lease, syn_gate, decision.clone(), deadline);
        let stale = becomes_stale(check, own, &self.mappings, &self.behaviour);
        match unless_stale(stale, punching, decision).await {
            Some(Ok((punched, unexplained))) => {
                pending.connected();
                let unconfirmed = unexplained.map(|(lost, circumstances)| UnconfirmedAttempt {
                    lost,
                    opening,
                    pending,
                    circumstances,
                });
                Ok((punched, unconfirmed))
            }
            // A callee that has left has told where it is before.
            Some(Err(error)) => {
                pending.give_up(deadline).await;
                Err(error)
            }
            None => {
                pending.give_up(deadline).await;
                sleep_until(deadline.min(clock::now() + pause).into()).await;
                Err(DialError::PeerLeft)
            }
        }
    }

    /// Returns what verifies the connections of an introduction.
    fn verifier(
        &self,
        begun: &Begun,
        parties: Parties,
        session: SessionToken,
        handshake: &CoordinatedHandshake,
    ) -> Result<Verifier, DialError> {
        // The callee's flight leaves when the dialler is told, and takes half the round trip.
        let due = begun.started + begun.rtt_via_coordinator / 2;
        Ok(Verifier::new(&self.key, parties, session, handshake)?
            .handshaking_until(due)
            .over(begun.rtt_via_coordinator)
            .enduring(self.stream_silence))
    }

    /// Makes a connection of an introduction. What would explain that an unconfirmed one has come
    /// to nothing is returned with it.
    pub(super) async fn punch(
        &self,
        attempt: Attempt,
        lease: &PortSetLease,
        syn_gate: SynGate,
        decision: Decision,
        deadline: Instant,
    ) -> Result<(Punched, Option<(Lost, Circumstances)>), DialError> {
        let begun = attempt.begun(syn_gate.is_held());
        let Attempt {
            introduction,
            advertised,
            coordination,
            mut handshake,
            vantage,
            known,
            predecessors,
        } = attempt;
        let Introduction {
            session,
            peer,
            role,
            mut candidates,
            nat,
            ..
        } = introduction;
        let coordinator = coordination.host();
        let circumstances =
            Circumstances::new(&vantage, &self.mappings.known(), &candidates, known);
        let (translated, may_be_reached) = self.prepare(&mut candidates, &vantage, coordinator);
        handshake.connect(session, coordination);
        let remotes = fixed_addresses(&candidates);
        let shared = begun.shared_addresses(&candidates, [&advertised.nat, &nat]);
        let kinds = candidates.iter().map(|it| (it.address, it.kind)).collect();
        let inbox = self.inbound.expect(session.opening(role.other()), remotes);
        self.tell_of_introduction(&begun);

        let ports = lease.ports().unwrap_or(&self.ports);
        let Routes { sources, missing } = gather::routes(&self.host, &candidates, vantage.own());
        let mut bases = gather::bases(ports, advertised.unused, &sources, coordinator);
        let nats = [&advertised.nat, &nat];
        let parties = begun.parties(self.key.peer_id());
        // Until this introduction is over.
        let rotation = &self.pair_rotation;
        let _begun = rotation.take(parties, nats, &mut bases, &mut candidates);
        let introduced = Introduced {
            role,
            bases,
            routes: sources,
            unrouted: missing,
            translated: translated.clone(),
            remote_candidates: candidates,
            may_be_reached,
            families_apart: known.are_apart(),
            rtt_via_coordinator: begun.rtt_via_coordinator,
            local_nat: advertised.nat,
            remote_nat: nat,
        };
        let config = begun.config(&self.punch, nats, &self.behaviour).await;
        let (agent, reservation) = self.guess_budget.reserve(peer, config, |config| {
            PunchAgent::new(config, introduced, self.host.random_seed(), begun.started)
        });
        self.tell_of_begin(&begun, agent.targets());
        let verifier = self.verifier(&begun, parties, session, &handshake)?;
        let handover = self.handover(parties, handshake, decision, predecessors);
        let session = Session::new(agent, verifier, handover, inbox, self.guess_budget.holes())
            .naming(kinds, shared, translated)
            .gated(syn_gate)
            .spending(self.syn_budget.open(peer), reservation)
            .leaving_open(Arc::clone(&self.lingering));
        let (result, race) = run(session, deadline, &circumstances, &self.behaviour).await;
        self.note_end(&begun, &result);
        let Handed { punched, lost } = result?;
        let lost = lost.map(|lost| (lost, circumstances));
        Ok((punched.tied_to(race), lost))
    }

    /// Leaves those of a peer's candidates that are connected to, as this host reaches them.
    /// Returns which addresses lead through a NAT64, and whether the peer may connect although none
    /// is left.
    fn prepare(
        &self,
        candidates: &mut Vec<Candidate>,
        vantage: &Vantage,
        coordinator: SocketAddr,
    ) -> (BTreeSet<IpAddr>, bool) {
        let is_named = !candidates.is_empty();
        vantage.retain(candidates);
        gather::put_in_zone(candidates, coordinator);
        let translated = self.nat64.translate(candidates);
        (translated, is_named && candidates.is_empty())
    }

    fn tell_of_introduction(&self, begun: &Begun) {
        let Begun { peer, role, .. } = *begun;
        if role == Role::Controlled {
            self.pending_failures.introduced(peer);
        }
        if !begun.is_held {
            self.observer.tell(Status::Introduced { peer, role });
        }
    }

    /// Tells of how many addresses of the peer are connected to, as soon as that is planned.
    fn tell_of_begin(&self, begun: &Begun, candidates: usize) {
        let Begun {
            peer,
            rtt_via_coordinator,
            ..
        } = *begun;
        if !begun.is_held {
            self.observer.tell(Status::Punching {
                peer,
                candidates,
                rtt_via_coordinator,
            });
        }
    }

    /// Counts an attempt, and says that a dialler has found no way, if it gave up only when there
    /// had been time to find one: a dial that begins anew, or that this side has turned away, has
    /// not failed.
    fn note_end(&self, begun: &Begun, result: &Result<Handed, SessionError>) {
        let Begun {
            peer,
            role,
            started,
            rtt_via_coordinator,
            are_apart,
            is_held,
        } = *begun;
        match result {
            Ok(Handed { punched, .. }) => {
                let UsablePath { opened, stats, .. } = punched.stream_path.first();
                let open = opened.at.saturating_duration_since(started);
                self.metrics.established(open, clock::since(started), stats);
            }
            Err(SessionError::NoPath(report)) => self.metrics.failed(started, &report.pairs),
            Err(SessionError::Broken(_)) => self.metrics.failed(started, &[]),
            // It is counted when it begins anew.
            Err(
                SessionError::PeerLeft(_)
                | SessionError::PeerBusy
                | SessionError::PeerSilent(_)
                | SessionError::PeerUnheard(_),
            ) => {}
        }
        let (Role::Controlled, Err(SessionError::PeerLeft(report))) = (role, result) else {
            return;
        };
        // The word of it takes half a round trip, and the two may have started as much apart. What
        // both know to be impossible is given up at the soonest moment, and an introduction whose
        // packet is lost comes later than that.
        let is_impossible = are_apart || report.verdict == Verdict::BothMappingsVary;
        let soonest = self.punch.impossible_after.max(rtt_via_coordinator * 4);
        let is_early = !is_impossible && clock::since(started) + rtt_via_coordinator < soonest;
        if is_early || is_held {
            return;
        }
        // A machine that lacks sockets has no pairs to tell of, and that is not the peer's fault.
        let (reason, report) = match shortage::since(started) {
            Some(shortage) => (shortage.to_string(), None),
            None => {
                let reason = format!("the dialler gave the attempt up. {report}");
                (reason, Some(report.clone()))
            }
        };
        let failure = Status::PunchFailed {
            peer,
            reason,
            report,
        };
        self.pending_failures
            .tell_later(peer, &self.observer, failure);
    }
}

/// Waits for a connection, unless the introduction becomes stale before one is used.
///
/// Cancel safety: dropping the future gives the introduction up.
async fn unless_stale<T>(
    stale: impl Future<Output = ()>,
    punching: impl Future<Output = T>,
    decision: Decision,
) -> Option<T> {
    let mut punching = std::pin::pin!(punching);
    tokio::select! {
        biased;
        result = &mut punching => return Some(result),
        () = stale => {}
    }
    if decision.gives_up() {
        return None;
    }
    Some(punching.await)
}

/// Returns the addresses that connections of this session's peer alone come from. What is predicted
/// may be another session's: what opens the connection tells.
fn fixed_addresses(candidates: &[Candidate]) -> BTreeSet<SocketAddr> {
    let is_fixed = |it: &&Candidate| it.kind != CandidateKind::Predicted;
    candidates
        .iter()
        .filter(is_fixed)
        .map(|it| it.address)
        .collect()
}

/// Runs a session until it hands a connection out, and returns what goes on with it. A failure is
/// explained by all that is known.
///
/// Cancel safety: dropping the future ends the session.
async fn run(
    session: Session,
    deadline: Instant,
    circumstances: &Circumstances,
    behaviour: &Behaviour,
) -> (Result<Handed, SessionError>, AbortOnDrop) {
    let (handed, handing) = oneshot::channel();
    let race = AbortOnDrop::spawn(session.run(deadline, behaviour.reports(), handed));
    let Ok(mut result) = handing.await else {
        let broken = SessionError::Broken(io::ErrorKind::BrokenPipe.into());
        return (Err(broken), race);
    };
    if let Err(SessionError::NoPath(report) | SessionError::PeerLeft(report)) = &mut result {
        circumstances.explain(report, behaviour.bans());
    }
    (result, race)
}
