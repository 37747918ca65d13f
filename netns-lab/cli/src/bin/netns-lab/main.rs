//! The command `netns-lab`.

mod arguments;
mod chain;
mod conversation;
mod demo;
mod explain;
mod list;
mod matrix;
mod output;
mod play;
mod progress;
mod run;
mod shell;
mod stage;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;
use netns_lab::{Error, scenario::RunError};

use arguments::{Arguments, Subcommand};

/// The exit status for what is wrong with a request or with the system, as that of clap.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.subcommand {
        Subcommand::Demo(demo) => demo::main(demo),
        Subcommand::List(list) => list::main(list),
        Subcommand::Run(run) => run::main(run),
        Subcommand::Shell(shell) => shell::main(shell),
        Subcommand::Matrix(matrix) => matrix::main(matrix),
        Subcommand::Explain(explain) => explain::main(explain),
    };
    result.unwrap_or_else(|error| {
        // Whoever reads our output has read enough.
        if output::is_closed(&error) {
            return ExitCode::SUCCESS;
        }
        output::complain(&format!("{error:#}"));
        if error.chain().any(is_beyond_netfilter) {
            output::note(&chain::of_netfilter());
        }
        ExitCode::from(TROUBLE)
    })
}

fn is_beyond_netfilter(cause: &(dyn std::error::Error + 'static)) -> bool {
    let of_lab = cause.downcast_ref::<Error>();
    let of_run = cause.downcast_ref().and_then(|it| match it {
        RunError::Lab(error) => Some(error),
        _ => None,
    });
    matches!(of_lab.or(of_run), Some(Error::Inexpressible { .. }))
}
