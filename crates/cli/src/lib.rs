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
mod logging;
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
use logging::{Format, Logging};
use report::Reporter;
use runtime::Load;

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
    // What a server logs is a setting.
    if !matches!(command, Command::Serve(_)) {
        // A service is read by its operator.
        let usual = match matches!(command, Command::StunServer(_)) {
            true => "error,p2pconnect_stun=warn",
            false => "off",
        };
        Logging::start(usual, Format::Text);
    }
    if let Err(error) = p2pconnect::raise_file_limit() {
        tracing::debug!(%error, "the limit of open files stays");
    }
    match command {
        Command::Id(options) => cmd::id::run(&options),
        #[cfg(feature = "demo")]
        Command::Demo(options) => cmd::demo::run(&options),
        Command::Serve(options) => cmd::serve::run(&options),
        Command::StunServer(options) => {
            let served = runtime::block_on(Load::Strangers, cmd::stun_server::run(options));
            served.unwrap_or_else(|error| Exit::failure(&error))
        }
        Command::Board { action } => {
            let reporter = action.of().endpoint.output.reporter(started);
            let command = cmd::board::run(action, reporter.clone());
            reporting(&reporter, Load::OneStream, command)
        }
        Command::Probe(options) => {
            let probed = runtime::block_on(Load::OneStream, cmd::probe::run(options));
            probed.unwrap_or_else(|error| Exit::failure(&error))
        }
        Command::Listen(options) => {
            let reporter = options.endpoint.output.reporter(started);
            let load = match options.forward {
                Some(_) => Load::Streams,
                None => Load::OneStream,
            };
            reporting(&reporter, load, cmd::listen::run(options, reporter.clone()))
        }
        Command::Dial(options) => {
            let reporter = options.endpoint.output.reporter(started);
            let command = cmd::dial::run(options, reporter.clone());
            reporting(&reporter, Load::OneStream, command)
        }
    }
}

/// Runs a command that says what happens, and says so too where it cannot be started.
fn reporting(
    reporter: &Reporter,
    load: Load,
    command: impl Future<Output = Exit> + Send + 'static,
) -> Exit {
    let ended = runtime::block_on(load, command);
    ended.unwrap_or_else(|error| reporter.failed(exit::BROKEN, &error))
}
