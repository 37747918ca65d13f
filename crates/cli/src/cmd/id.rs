//! The subcommand `id`: prints a peer id.

use std::io::Write as _;

use crate::{
    args,
    exit::{self, Exit},
    key::{self, Loaded, PEER_KEY},
    stdio,
};

/// Prints the peer id, alone, on stdout.
pub(crate) fn run(options: &args::Id) -> Exit {
    match key::load(&options.key.file(), PEER_KEY) {
        Ok(Loaded { key, path, is_new }) => {
            let id = key.peer_id();
            if is_new {
                // A mistyped path makes another peer of this machine.
                stdio::say(format!("a new key was made, {}", path.display()));
            }
            exit::of_printing(writeln!(stdio::stdout(), "{id}"))
        }
        Err(error) => Exit::usage(error),
    }
}
