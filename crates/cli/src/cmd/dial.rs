use std::time::{Duration, Instant};

use p2pconnect::{Connection, Endpoint};
use tokio::time::timeout;

use crate::{
    args,
    exit::{self, Exit},
    key::{self, PEER_KEY},
    pump::{Transferred, pump},
    report::Reporter,
    signals,
    stdout::Stdout,
};

/// How long the stream may take to end after a hang-up: some round trips, for the last bytes and
/// the peer's.
const FAREWELL: Duration = Duration::from_secs(1);

/// Connects to a peer and makes stdin and stdout the stream.
pub(crate) async fn run(options: args::Dial, started: Instant) -> Exit {
    let reporter = Reporter::new(options.json, started);
    tokio::select! {
        exit = dial(options, &reporter) => exit,
        () = signals::interrupted() => Exit(exit::INTERRUPTED),
    }
}

async fn dial(options: args::Dial, reporter: &Reporter) -> Exit {
    let fail = |status, error: anyhow::Error| {
        reporter.failed(status, &error);
        Exit(status)
    };
    let (endpoint, connection) = match timeout(options.timeout, connect(&options, reporter)).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(Failed {
            status,
            error,
            endpoint,
        })) => {
            let exit = fail(status, error);
            // Takes a while where a router forwards ports, so whoever waits for the reason has it first.
            if let Some(endpoint) = endpoint {
                endpoint.close().await;
            }
            return exit;
        }
        Err(_) => {
            let error = anyhow::anyhow!(
                "no answer from the coordinator in time; is UDP to it open, and the --timeout long \
                 enough?"
            );
            return fail(exit::UNREACHABLE, error);
        }
    };
    let hung_up = signals::hung_up();
    reporter.established(&connection);
    let pumped = pump_until(hung_up, connection).await;
    endpoint.close().await;
    let Some(pumped) = pumped else {
        return Exit(exit::INTERRUPTED);
    };
    match pumped {
        Ok(transferred) => {
            reporter.closed(options.peer, transferred);
            Exit::DONE
        }
        Err(error) => fail(exit::BROKEN, error.context("the stream broke")),
    }
}

/// Carries the stream. Who hangs up is still heard to the end of stdin: ssh closes that and hangs
/// up at once. `None` if that takes too long.
async fn pump_until(
    hung_up: impl Future<Output = ()>,
    connection: Connection,
) -> Option<anyhow::Result<Transferred>> {
    let pumping = pump(connection, tokio::io::stdin(), Stdout::new());
    tokio::pin!(pumping);
    tokio::select! {
        pumped = &mut pumping => Some(pumped),
        () = hung_up => timeout(FAREWELL, pumping).await.ok(),
    }
}

/// Why there is no connection, and what is to be closed.
struct Failed {
    status: u8,
    error: anyhow::Error,
    endpoint: Option<Endpoint>,
}

async fn connect(
    options: &args::Dial,
    reporter: &Reporter,
) -> Result<(Endpoint, Connection), Failed> {
    let failed = |status, error| Failed {
        status,
        error,
        endpoint: None,
    };
    let deadline = Instant::now() + options.timeout;
    let key =
        key::load(options.key.key.as_deref(), PEER_KEY).map_err(|e| failed(exit::USAGE, e))?;
    let observer = reporter.clone();
    if options.no_port_mapping {
        reporter.no_port_mapping();
    }
    let endpoint = Endpoint::builder()
        .secret_key(key)
        .coordinator(options.coordinator.coordinator.clone())
        .port_mapping(!options.no_port_mapping)
        .observer(move |status| observer.status(&status))
        .bind()
        .await
        .map_err(|error| failed(exit::of_bind(&error), error.into()))?;
    let time_left = deadline.saturating_duration_since(Instant::now());
    // The punch ends a little before the command does, so that its report is heard.
    let time_left = time_left.saturating_sub(Duration::from_millis(50));
    match endpoint.dial_within(options.peer, time_left).await {
        Ok(connection) => Ok((endpoint, connection)),
        Err(error) => Err(Failed {
            status: exit::of_dial(&error),
            error: error.into(),
            endpoint: Some(endpoint),
        }),
    }
}
