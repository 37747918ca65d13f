//! rndz over TCP for the comparison, as its own command uses it: `listen` opens its NAT when it is
//! told of a dialler, and the dialler then connects.
//!
//! What it gives is a TCP stream to whoever answers: neither encrypted nor authenticated. It tries
//! once; here a dialler tries three times.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use rndz::tcp::{AsyncClient, Server};
use tokio::net::TcpStream;
use versus::{Arrival, Dial, Role, Stopwatch, announce};

const LISTENER: &str = "listener";

const ATTEMPTS: usize = 3;

/// How long one attempt may take: its connect() waits for the kernel, which repeats the SYN for two
/// minutes.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let stopwatch = Stopwatch::start();
    match Role::from_arguments()? {
        Role::Serve(address) => {
            let server = Server::new(address).await?;
            announce(address);
            server.run().await?;
            Ok(ExitCode::FAILURE)
        }
        Role::Listen(server) => listen(stopwatch, &server).await,
        Role::Dial(dial) => Ok(Stopwatch::report(&dial, connect(stopwatch, &dial)).await),
    }
}

async fn listen(mut stopwatch: Stopwatch, server: &str) -> Result<ExitCode> {
    let mut client = AsyncClient::new(server, LISTENER, None)?;
    client.listen().await?;
    stopwatch.ready();
    announce(LISTENER);
    loop {
        let (stream, _) = client.accept().await?;
        stream.set_nodelay(true)?;
        // A stream that its dialler gives up is the dialler's to report.
        tokio::spawn(async move { stopwatch.serve(stream).await.ok() });
    }
}

async fn connect(mut stopwatch: Stopwatch, dial: &Dial) -> Result<(Arrival, TcpStream)> {
    let mut client = AsyncClient::new(&dial.server, "dialler", None)?;
    // Nothing is prepared: each dial connects to the server first.
    stopwatch.ready();
    let mut attempt = 1;
    loop {
        let connected = tokio::time::timeout(PATIENCE, client.connect(&dial.peer)).await;
        match connected.context("silence").and_then(|it| Ok(it?)) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok((stopwatch.arrived(), stream));
            }
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.context(format!("{ATTEMPTS} attempts"))),
        }
    }
}
