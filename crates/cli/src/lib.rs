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
mod halves;
mod hint;
mod key;
mod memory;
mod patient;
mod pauses;
mod privileges;
mod pump;
mod report;
mod runtime;
mod shortage;
mod signals;
mod stderr;
mod stdio;
mod words;

use std::{process::ExitCode, time::Instant};

use args::{Command, parse};
use exit::Exit;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter,
    filter::{FilterExt as _, filter_fn},
    layer::{Layer as _, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

/// Runs the command with the arguments of this process.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let exit = match parse(started) {
        Ok(command) => run(command, started),
        Err(exit) => exit,
    };
    stderr::finish();
    exit.into()
}

fn run(command: Command, started: Instant) -> Exit {
    start_logging(match command {
        // A service is read by its operator.
        Command::Serve(_) => "error,p2pconnect_coordinator=info,p2pconnect_cli=info",
        _ => "off",
    });
    if let Err(error) = p2pconnect::raise_file_limit() {
        tracing::debug!(%error, "the limit of open files stays");
    }
    match command {
        Command::Id(options) => cmd::id::run(&options),
        #[cfg(feature = "demo")]
        Command::Demo(options) => cmd::demo::run(&options),
        Command::Serve(options) => cmd::serve::run(&options),
        Command::Listen(options) => {
            let reporter = options.endpoint.output.reporter(started);
            let listened = runtime::block_on(cmd::listen::run(options, &reporter));
            listened.unwrap_or_else(|error| reporter.failed(exit::BROKEN, &error))
        }
        Command::Dial(options) => {
            let reporter = options.endpoint.output.reporter(started);
            let dialled = runtime::block_on(cmd::dial::run(options, &reporter));
            dialled.unwrap_or_else(|error| reporter.failed(exit::BROKEN, &error))
        }
    }
}

/// Sends what `RUST_LOG` selects to stderr, or else what `usual` does.
fn start_logging(usual: &str) {
    let asked = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    // QUIC's own traces have the tokens in them by which whoever reads them ends a connection.
    let is_secret =
        |it: &Metadata<'_>| *it.level() == Level::TRACE && it.target().starts_with("quinn_proto");
    let lines = tracing_subscriber::fmt::layer()
        // The crate is built without colours, and complains on stderr where it is asked for them.
        .with_ansi(false)
        .with_writer(|| stderr::Log)
        .with_filter(asked.and(filter_fn(move |it| !is_secret(it))));
    tracing_subscriber::registry().with(lines).init();
}
