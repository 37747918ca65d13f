//! The `p2pconnect` command: a direct, authenticated TCP stream between two machines behind NATs.
//!
//! It is a library so that the test suites can build the command beside their tests.

mod args;
mod by_name;
mod cmd;
mod environment;
mod evidence;
mod exit;
mod forward;
mod key;
mod pauses;
mod pump;
mod report;
mod signals;
mod stdio;

use std::{process::ExitCode, time::Duration};

use args::{Command, parse};

use crate::exit::Exit;

/// Runs the command with the arguments of this process.
pub fn main() -> ExitCode {
    let started = std::time::Instant::now();
    let command = match parse(started) {
        Ok(command) => command,
        Err(code) => return code,
    };
    start_logging();
    if let Err(error) = p2pconnect::raise_file_limit() {
        tracing::debug!(%error, "the limit of open files stays");
    }
    match command {
        Command::Id(options) => cmd::id::run(&options),
        Command::Demo(options) => cmd::demo::run(&options),
        Command::Serve(options) => block_on(cmd::serve::run(options)),
        Command::Listen(options) => block_on(cmd::listen::run(options, started)),
        Command::Dial(options) => block_on(cmd::dial::run(options, started)),
    }
    .into()
}

fn block_on(command: impl Future<Output = Exit>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Exit::failure(&anyhow::Error::new(error)),
    };
    let exit = runtime.block_on(command);
    // A read from a terminal cannot be cancelled, so nothing waits for it.
    runtime.shutdown_timeout(Duration::ZERO);
    exit
}

/// Sends what `RUST_LOG` selects to stderr; nothing by default.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stdio::stderr)
        .init();
}
