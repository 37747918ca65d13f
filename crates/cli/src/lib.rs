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
mod runtime;
mod signals;
mod stdio;

use std::process::ExitCode;

use args::{Command, parse};

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
        Command::Serve(options) => runtime::block_on(cmd::serve::run(options)),
        Command::Listen(options) => runtime::block_on(cmd::listen::run(options, started)),
        Command::Dial(options) => runtime::block_on(cmd::dial::run(options, started)),
    }
    .into()
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
