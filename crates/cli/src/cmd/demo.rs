//! A dial between two NATs in a lab on this machine, explained as it happens.

mod process;
mod script;
mod traffic;

use std::process::ExitCode;

use crate::{args, exit::Exit};

/// Runs the demo, inside namespaces of its own.
pub(crate) fn run(options: &args::Demo) -> Exit {
    match netns_lab::isolate() {
        Ok(Some(code)) if code == ExitCode::SUCCESS => Exit::DONE,
        // Inside, it has said what went wrong.
        Ok(Some(_)) => Exit(crate::exit::BROKEN),
        Ok(None) => match script::play(options) {
            Ok(()) => Exit::DONE,
            Err(error) => Exit::failure(&error),
        },
        Err(error) => {
            let error = anyhow::Error::new(error);
            Exit::failure(&error.context("the demo cannot build its lab here"))
        }
    }
}
