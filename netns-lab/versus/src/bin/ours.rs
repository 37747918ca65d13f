//! p2pconnect for the comparison: the command's `serve`, and the library's `dial` and `accept`.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use p2pconnect::{DialPolicy, Endpoint};
use versus::{Dial, Role, Stopwatch, announce};

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let stopwatch = Stopwatch::start();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    p2pconnect::raise_file_limit()?;
    match Role::from_arguments()? {
        Role::Serve(address) => {
            let command = std::env::current_exe()?.with_file_name("p2pconnect");
            let address = address.to_string();
            let mut command = Command::new(command);
            Err(command.args(["serve", "--listen", &address]).exec().into())
        }
        Role::Listen(server) => listen(stopwatch, &server).await,
        Role::Dial(dial) => Ok(Stopwatch::report(&dial, connect(stopwatch, &dial)).await),
    }
}

async fn listen(mut stopwatch: Stopwatch, server: &str) -> Result<ExitCode> {
    let endpoint = Endpoint::builder()
        .coordinator(server.parse()?)
        .allow(DialPolicy::Anyone)
        .bind()
        .await?;
    stopwatch.ready();
    announce(endpoint.peer_id());
    loop {
        let connection = endpoint.accept().await.context("the endpoint ended")?;
        // A stream that its dialler gives up is the dialler's to report.
        tokio::spawn(async move { stopwatch.serve(connection).await.ok() });
    }
}

async fn connect(
    mut stopwatch: Stopwatch,
    dial: &Dial,
) -> Result<(versus::Arrival, p2pconnect::Connection)> {
    let builder = Endpoint::builder().coordinator(dial.server.parse()?);
    let endpoint = builder.bind().await?;
    stopwatch.ready();
    let connection = endpoint.dial_within(dial.peer.parse()?, dial.limit).await?;
    Ok((stopwatch.arrived(), connection))
}
