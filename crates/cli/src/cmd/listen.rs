use std::time::{Duration, Instant};

use anyhow::Context as _;
use p2pconnect::{Connection, Endpoint};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::{
    args,
    exit::{self, Exit},
    key::{self, PEER_KEY},
    pump::{Transferred, pump},
    report::Reporter,
    signals,
};

/// The most peers that are forwarded at a time; it leaves room below the usual limit of 1,024
/// open files.
const MAX_STREAMS: usize = 256;

/// How long the forward address may take to accept.
const FORWARD_LIMIT: Duration = Duration::from_secs(10);

/// Waits for peers, and carries their streams.
pub(crate) async fn run(options: args::Listen, started: Instant) -> Exit {
    let reporter = Reporter::new(options.json, started);
    tokio::select! {
        exit = listen(&options, &reporter) => exit,
        () = signals::interrupted() => Exit::DONE,
    }
}

async fn listen(options: &args::Listen, reporter: &Reporter) -> Exit {
    let endpoint = match bind(options, reporter).await {
        Ok(endpoint) => endpoint,
        Err((status, error)) => {
            reporter.failed(status, &error);
            return Exit(status);
        }
    };
    match &options.forward {
        Some(target) => forward_all(&endpoint, target, options.once, reporter).await,
        None => serve_one(&endpoint, reporter).await,
    }
}

async fn bind(
    options: &args::Listen,
    reporter: &Reporter,
) -> Result<Endpoint, (u8, anyhow::Error)> {
    let key = key::load(options.key.key.as_deref(), PEER_KEY).map_err(|e| (exit::USAGE, e))?;
    let observer = reporter.clone();
    Endpoint::builder()
        .secret_key(key)
        .coordinator(options.coordinator.coordinator.clone())
        .allow(options.policy())
        .observer(move |status| observer.status(&status))
        .bind()
        .await
        .map_err(|error| (exit::of_bind(&error), error.into()))
}

/// Makes stdin and stdout the first peer's stream. Later peers are turned away meanwhile.
async fn serve_one(endpoint: &Endpoint, reporter: &Reporter) -> Exit {
    let Some(connection) = endpoint.accept().await else {
        return Exit::DONE;
    };
    reporter.established(&connection);
    let turning_away = async {
        while endpoint.accept().await.is_some() {}
        std::future::pending::<()>().await;
    };
    let pumped = tokio::select! {
        pumped = pump(connection, tokio::io::stdin(), tokio::io::stdout()) => pumped,
        () = turning_away => return replaced(reporter),
    };
    match pumped {
        Ok(transferred) => {
            reporter.closed(transferred);
            Exit::DONE
        }
        Err(error) => {
            let error = anyhow::Error::new(error).context("the stream broke");
            reporter.failed(exit::BROKEN, &error);
            Exit(exit::BROKEN)
        }
    }
}

/// Carries each peer's stream to `target`.
async fn forward_all(endpoint: &Endpoint, target: &str, once: bool, reporter: &Reporter) -> Exit {
    let mut streams = JoinSet::new();
    let room = if once { 1 } else { MAX_STREAMS };
    loop {
        tokio::select! {
            accepted = endpoint.accept(), if streams.len() < room => {
                let Some(connection) = accepted else { return replaced(reporter) };
                reporter.established(&connection);
                let (target, reporter) = (target.to_owned(), reporter.clone());
                streams.spawn(async move {
                    match forward(connection, &target).await {
                        Ok(transferred) => reporter.closed(transferred),
                        Err(error) => reporter.stream_failed(&error),
                    }
                });
            }
            Some(_) = streams.join_next() => {
                if once {
                    return Exit::DONE;
                }
            }
        }
    }
}

fn replaced(reporter: &Reporter) -> Exit {
    let error = anyhow::anyhow!("another process has registered with the same key");
    reporter.failed(exit::BROKEN, &error);
    Exit(exit::BROKEN)
}

async fn forward(connection: Connection, target: &str) -> anyhow::Result<Transferred> {
    let stream = timeout(FORWARD_LIMIT, TcpStream::connect(target))
        .await
        .with_context(|| format!("{target} does not answer"))?
        .with_context(|| format!("{target} cannot be connected to"))?;
    stream.set_nodelay(true)?;
    let (input, output) = stream.into_split();
    pump(connection, input, output)
        .await
        .context("the stream broke")
}
