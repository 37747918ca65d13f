use std::io::Write as _;

use crate::{
    args,
    exit::Exit,
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
            match writeln!(stdio::stdout(), "{id}") {
                Ok(()) => Exit::DONE,
                Err(error) => {
                    Exit::failure(&anyhow::Error::new(error).context("stdout cannot be written"))
                }
            }
        }
        Err(error) => Exit::usage(error),
    }
}
