//! The subcommand `dial`: connects to a peer and carries one stream.

use std::{
    convert::Infallible,
    future::pending,
    pin::{Pin, pin},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use humantime::format_duration;
use p2pconnect::{Connection, Endpoint};
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
};

/// How long the stream may take to end after a hang-up: some round trips, for the last bytes and
/// the peer's.
const FAREWELL: Duration = Duration::from_secs(1);

/// How much earlier than the dial its parts end: what a busy machine takes to pass their reports on.
const HEARD_BEFORE: Duration = Duration::from_millis(50);

/// How long a dial may take until people are told what it waits for: longer than most dials take.
const SILENT_FOR: Duration = Duration::from_secs(1);

/// Connects to a peer and makes stdin and stdout the stream.
pub(crate) async fn run(options: args::Dial, reporter: &Reporter) -> Exit {
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
            // Takes a while where a router forwards ports, so whoever waits for the reason has it first.
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

/// Adds what else may have gone away at the other end: who listens may carry the stream to a service.
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

    /// Nobody has answered within the time of an option.
    fn unanswered(option: &str) -> Self {
        Self {
            status: exit::UNREACHABLE,
            error: anyhow!(
                "no answer from the coordinator in time; is it running, is UDP to it open, and the {option} long \
                 enough?"
            ),
            endpoint: None,
            may_become_right: true,
        }
    }
}

/// What ends a dial before there is a stream.
type Stopped<'a> = Pin<&'a mut dyn Future<Output = Signal>>;

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
        let connecting = connect(options, prepared, stopped);
        let connecting = saying_what_is_lacking(connecting, options, reporter);
        let attempt = timeout(options.timeout, connecting);
        let failed = tokio::select! {
            connected = attempt => match connected {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(failed)) => failed,
                Err(_) => Failed::unanswered("--timeout"),
            },
            () = waited_in_vain(give_up_at, reporter) => {
                return Err(in_vain(options, last.unwrap_or_else(|| Failed::unanswered("--wait"))));
            }
        };
        let Some(give_up_at) = give_up_at.filter(|_| failed.may_become_right) else {
            return Err(failed);
        };
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

/// Returns at the end of the time for which a peer is waited for, unless this side has been introduced to it in this
/// attempt: that the two connect takes as long as any dial may take.
async fn waited_in_vain(give_up_at: Option<Instant>, reporter: &Reporter) {
    let before = reporter.introductions();
    if let Some(give_up_at) = give_up_at {
        sleep_until(give_up_at.into()).await;
    }
    if give_up_at.is_none() || reporter.introductions() > before {
        pending().await
    }
}

/// Waits for a connection, and says after a while whose answer it is that is waited for.
async fn saying_what_is_lacking<T>(
    connecting: impl Future<Output = T>,
    options: &args::Dial,
    reporter: &Reporter,
) -> T {
    let before = reporter.introductions();
    let mut connecting = pin!(connecting);
    if let Ok(connected) = timeout(SILENT_FOR, &mut connecting).await {
        return connected;
    }
    let is_introduced = reporter.introductions() > before;
    reporter.unanswered(is_introduced.then_some(&options.peer), options.timeout);
    connecting.await
}

async fn connect(
    options: &args::Dial,
    prepared: &Prepared<'_>,
    stopped: &mut Stopped<'_>,
) -> Result<(Endpoint, Connection), Failed> {
    let failed = |status, error| Failed {
        status,
        error,
        endpoint: None,
        may_become_right: false,
    };
    // The parts end a little before the whole does, so that their reports are heard.
    let time = options.timeout - HEARD_BEFORE.min(options.timeout / 10);
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
            error: error.into(),
            endpoint: Some(endpoint),
        }),
    }
}
