//! The subcommand `dial`: connects to a peer and carries one stream.

use std::{
    convert::Infallible,
    future::pending,
    pin::{Pin, pin},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use humantime::format_duration;
use p2pconnect::{Connection, DialError, Endpoint, PeerId};
use tokio::time::{sleep, sleep_until, timeout};

use super::prepared::Prepared;
use crate::{
    args,
    exit::{self, Exit},
    pauses::{self, Pauses},
    pump::{PeerLeft, Transferred, pump},
    report::Reporter,
    signals::{self, Signal},
    stdio::{Stdin, Stdout},
    words::in_tenths,
};

/// How long the stream may take to end after a hang-up: some round trips, for the last bytes and
/// the peer's.
const FAREWELL: Duration = Duration::from_secs(1);

/// How much earlier than the dial its parts end: what a busy machine takes to pass their reports
/// on.
const HEARD_BEFORE: Duration = Duration::from_millis(50);

/// How long a dial may take until people are told what it waits for: longer than most dials take.
const SILENT_FOR: Duration = Duration::from_secs(1);

/// Connects to a peer and makes stdin and stdout the stream.
pub(crate) async fn run(options: args::Dial, reporter: Reporter) -> Exit {
    let reporter = &reporter;
    let prepared = Prepared::new(&options.endpoint, reporter, |own_id, coordinator| {
        options.check_peer(own_id, &coordinator.id).map(|()| None)
    });
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err((status, error)) => return reporter.failed(status, &error),
    };
    dial(&options, &prepared, reporter).await
}

async fn dial(options: &args::Dial, prepared: &Prepared<'_>, reporter: &Reporter) -> Exit {
    if let Some(limit) = options.wait {
        reporter.wait_begins(&options.peer, limit);
    }
    // One of each for all of the dial: a signal that comes when nobody waits for it is lost.
    let mut interrupted = pin!(signals::interrupted());
    let mut hung_up = pin!(signals::hung_up());
    let connected = {
        let mut stopped = pin!(signals::either(&mut interrupted, &mut hung_up));
        let mut stopped: Stopped<'_> = stopped.as_mut();
        connect_at_last(options, prepared, reporter, &mut stopped).await
    };
    let (mut endpoint, connection) = match connected {
        Ok(connected) => connected,
        Err(failed) => {
            let exit = reporter.failed(failed.status, &prepared.explained(failed.error));
            // Takes a while where a router forwards ports, so whoever waits for the reason has it
            // first.
            if let Some(endpoint) = failed.endpoint {
                endpoint.close().await;
            }
            return exit;
        }
    };
    // In this order: what another thread says comes before, or not at all.
    reporter.stream_begins();
    reporter.established(&connection);
    let confirmed = connection.confirmed();
    let retiring = async {
        // Until then the handshake may still need the coordinator.
        confirmed.await;
        endpoint.retire().await;
        pending::<Infallible>().await
    };
    let pumped = tokio::select! {
        pumped = pump_until(hung_up, connection, reporter) => pumped,
        never = retiring => match never {},
        signal = interrupted => return reporter.interrupted(signal),
    };
    endpoint.close().await;
    match pumped {
        Ok(pumped) => reporter.stream_ended(options.peer, pumped),
        Err(signal) => reporter.interrupted(signal),
    }
}

/// Carries the stream. Who hangs up is still heard to the end of stdin: ssh closes that and hangs
/// up at once. An error is the signal, if that takes too long.
async fn pump_until(
    hung_up: impl Future<Output = Signal>,
    connection: Connection,
    reporter: &Reporter,
) -> Result<anyhow::Result<Transferred>, Signal> {
    let peer = connection.peer_id();
    let peer_ended = || reporter.peer_ended(peer);
    let pumping = pump(connection, Stdin::default(), Stdout::default(), peer_ended);
    tokio::pin!(pumping);
    let pumped = tokio::select! {
        pumped = &mut pumping => pumped,
        signal = hung_up => timeout(FAREWELL, pumping).await.map_err(|_| signal)?,
    };
    Ok(pumped.map_err(of_a_listener))
}

/// Adds what else may have gone away at the other end: who listens may carry the stream to a
/// service.
fn of_a_listener(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<PeerLeft>() {
        Ok(left) => left.or_a_service().into(),
        Err(error) => error,
    }
}

/// Why there is no connection, and what is to be closed.
struct Failed {
    status: u8,
    error: anyhow::Error,
    endpoint: Option<Endpoint>,
    /// Whether it may become right by itself: the peer or the coordinator is not there yet.
    may_become_right: bool,
}

impl Failed {
    fn interrupted(signal: Signal, endpoint: Option<Endpoint>) -> Self {
        Self {
            status: exit::INTERRUPTED,
            error: signals::ended_by(signal),
            endpoint,
            may_become_right: false,
        }
    }

    /// The time is over.
    fn late(limit: Limit) -> Self {
        Self {
            status: exit::UNREACHABLE,
            error: late(limit),
            endpoint: None,
            may_become_right: true,
        }
    }

    /// Returns the failure of the attempt before, where this one had too little time to learn
    /// anything.
    fn or_as_before(self, before: Option<Self>) -> Self {
        let tells_less = match self.error.downcast_ref() {
            Some(DialError::TimedOut) => true,
            // There is no path to whoever has gone.
            Some(DialError::NoDirectPath(_) | DialError::PeerUnheard(_)) => {
                let before = before.as_ref().and_then(|it| it.error.downcast_ref());
                matches!(before, Some(DialError::PeerSilent(_)))
            }
            _ => false,
        };
        match before {
            Some(before) if tells_less => Self {
                endpoint: self.endpoint,
                ..before
            },
            _ => self,
        }
    }
}

/// How long an attempt may take, and by which option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    time: Duration,
    option: &'static str,
}

impl Limit {
    /// Returns that of an attempt, by what is left of the time for which a peer is waited for, if
    /// it is.
    fn of(timeout: Duration, left: Option<Duration>) -> Self {
        match left {
            Some(time) if time < timeout => Self {
                time,
                option: "--wait",
            },
            _ => Self {
                time: timeout,
                option: "--timeout",
            },
        }
    }
}

/// What ends a dial before there is a stream.
type Stopped<'a> = Pin<&'a mut (dyn Future<Output = Signal> + Send)>;

/// Connects, as soon as the peer is there if that is wanted.
async fn connect_at_last(
    options: &args::Dial,
    prepared: &Prepared<'_>,
    reporter: &Reporter,
    stopped: &mut Stopped<'_>,
) -> Result<(Endpoint, Connection), Failed> {
    let give_up_at = options.wait.map(|wait| Instant::now() + wait);
    let mut pauses = Pauses::default();
    let mut last = None;
    loop {
        let left = give_up_at.map(|at| at.saturating_duration_since(Instant::now()));
        let limit = Limit::of(options.timeout, left);
        let connecting = connect(options, prepared, limit, stopped);
        let connecting = saying_what_is_lacking(connecting, &options.peer, limit, reporter);
        let failed = match timeout(limit.time, connecting).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(failed)) => failed,
            Err(_) => Failed::late(limit),
        };
        let is_over = give_up_at.is_some_and(|at| at <= Instant::now() + HEARD_BEFORE);
        let failed = match is_over {
            true => failed.or_as_before(last.take()),
            false => failed,
        };
        let Some(give_up_at) = give_up_at.filter(|_| failed.may_become_right) else {
            return Err(failed);
        };
        if is_over {
            sleep_until(give_up_at.into()).await;
            return Err(in_vain(options, failed));
        }
        reporter.waiting(&failed.error);
        let pause = pauses.after(&failed.error);
        let Failed { endpoint, .. } = failed;
        if let Some(endpoint) = endpoint {
            endpoint.close().await;
        }
        let failed = Failed {
            endpoint: None,
            ..failed
        };
        tokio::select! {
            () = sleep(pause) => last = Some(failed),
            () = sleep_until(give_up_at.into()) => return Err(in_vain(options, failed)),
            signal = &mut *stopped => return Err(Failed::interrupted(signal, None)),
        }
    }
}

fn in_vain(options: &args::Dial, failed: Failed) -> Failed {
    let waited = options.wait.unwrap_or_default();
    Failed {
        error: failed
            .error
            .context(format!("waited for {}", format_duration(waited))),
        ..failed
    }
}

/// Waits for a connection, and says after a while what there is not yet.
async fn saying_what_is_lacking<T>(
    connecting: impl Future<Output = T>,
    peer: &PeerId,
    limit: Limit,
    reporter: &Reporter,
) -> T {
    let before = reporter.introductions();
    let mut connecting = pin!(connecting);
    if let Ok(connected) = timeout(SILENT_FOR, &mut connecting).await {
        return connected;
    }
    let is_introduced = reporter.introductions() > before;
    reporter.unanswered(is_introduced.then_some(peer), limit.time);
    connecting.await
}

async fn connect(
    options: &args::Dial,
    prepared: &Prepared<'_>,
    limit: Limit,
    stopped: &mut Stopped<'_>,
) -> Result<(Endpoint, Connection), Failed> {
    let failed = |status, error| Failed {
        status,
        error,
        endpoint: None,
        may_become_right: false,
    };
    // The parts end a little before the whole does, so that their reports are heard.
    let time = limit.time - HEARD_BEFORE.min(limit.time / 10);
    let deadline = Instant::now() + time;
    let builder = prepared.builder();
    let builder = builder.map_err(|(status, error)| failed(status, error))?;
    let builder = builder.lookup_limit(time);
    let bound = tokio::select! {
        bound = builder.bind() => bound,
        signal = &mut *stopped => return Err(Failed::interrupted(signal, None)),
    };
    let endpoint = bound.map_err(|error| Failed {
        may_become_right: pauses::binding_may_become_right(&error),
        ..failed(exit::of_bind(&error), error.into())
    })?;
    let time_left = deadline.saturating_duration_since(Instant::now());
    let dialled = tokio::select! {
        dialled = endpoint.dial_within(options.peer, time_left) => dialled,
        // The peer is told when the endpoint is closed, and has room for the next dial then.
        signal = stopped => return Err(Failed::interrupted(signal, Some(endpoint))),
    };
    match dialled {
        Ok(connection) => Ok((endpoint, connection)),
        Err(error) => Err(Failed {
            status: exit::of_dial(&error),
            may_become_right: pauses::dial_may_become_right(&error),
            error: explained(error, &options.peer, limit),
            endpoint: Some(endpoint),
        }),
    }
}

/// Adds what the user can look after: the id that was dialled, and how long a busy peer was asked.
fn explained(error: DialError, peer: &PeerId, limit: Limit) -> anyhow::Error {
    match error {
        DialError::Unavailable { own_id } => anyhow!(
            "{peer} (check the id) is not online at this coordinator, or does not allow this machine, whose peer id \
             is {own_id}"
        ),
        DialError::PeerBusy => {
            let told = format!(
                "{error}; it was asked for {}, and a longer {} asks for longer",
                in_tenths(limit.time),
                limit.option
            );
            anyhow::Error::new(error).context(told)
        }
        DialError::TimedOut => late(limit),
        error => error.into(),
    }
}

/// Says what to look after where the time of an attempt is over.
fn late(limit: Limit) -> anyhow::Error {
    let error = DialError::TimedOut;
    let told = format!(
        "{error}; is it running, is UDP or TCP to it open, and the {} long enough?",
        limit.option
    );
    anyhow::Error::new(error).context(told)
}

#[cfg(test)]
mod tests {
    use p2pconnect::{CoordinatorError, NatReport, PunchReport, Verdict};

    use super::*;
    use crate::words::with_causes;

    #[test]
    fn an_attempt_takes_no_longer_than_is_left_of_the_wait() {
        let [second, minute] = [1, 60].map(Duration::from_secs);
        let of = |timeout, left| {
            let limit = Limit::of(timeout, left);
            (limit.time, limit.option)
        };
        assert_eq!(of(second, None), (second, "--timeout"));
        assert_eq!(of(second, Some(minute)), (second, "--timeout"));
        assert_eq!(of(minute, Some(second)), (second, "--wait"));
    }

    #[test]
    fn a_dial_that_fails_says_what_to_look_after() {
        let [own_id, peer] = [1, 2].map(|it| PeerId::from_public_key([it; 32]));
        let limit = Limit::of(Duration::from_secs(15), None);
        let told = |error| with_causes(&explained(error, &peer, limit));
        let unavailable = told(DialError::Unavailable { own_id });
        for id in [own_id, peer] {
            assert!(unavailable.contains(&id.to_string()), "{unavailable}");
        }
        let busy = told(DialError::PeerBusy);
        assert!(
            busy.contains("asked for 15s, and a longer --timeout"),
            "{busy}"
        );
        assert_eq!(busy.matches("busy").count(), 1, "{busy}");
    }

    #[test]
    fn an_attempt_that_was_cut_short_tells_no_more_than_the_one_before() {
        let no_path = || {
            DialError::NoDirectPath(Box::new(PunchReport {
                verdict: Verdict::Silent,
                local_nat: NatReport::default(),
                remote_nat: NatReport::default(),
                nat64: false,
                guessed: false,
                pairs: Vec::new(),
                others: Default::default(),
            }))
        };
        let failed = |status, error: DialError| Failed {
            status,
            error: error.into(),
            endpoint: None,
            may_become_right: true,
        };
        let silent = || DialError::PeerSilent(Duration::ZERO);
        let before = || Some(failed(exit::UNAVAILABLE, silent()));
        let late = || Failed::late(Limit::of(Duration::ZERO, None));
        assert_eq!(late().or_as_before(before()).status, exit::UNAVAILABLE);
        assert_eq!(late().or_as_before(None).status, exit::UNREACHABLE);
        let unheard = failed(exit::UNAVAILABLE, DialError::PeerUnheard(Duration::ZERO));
        let told = unheard.or_as_before(before()).error.to_string();
        assert_eq!(told, silent().to_string());
        let no_path = || failed(exit::NO_PATH, no_path());
        assert_eq!(no_path().or_as_before(before()).status, exit::UNAVAILABLE);
        assert_eq!(no_path().or_as_before(None).status, exit::NO_PATH);
        let going_away = CoordinatorError::GoingAway { retry_after: None };
        let lost = failed(exit::UNREACHABLE, going_away.into());
        assert_eq!(lost.or_as_before(before()).status, exit::UNREACHABLE);
    }
}
