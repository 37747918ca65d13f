use crate::{
    args,
    exit::Exit,
    key::{self, PEER_KEY},
};

/// Prints the peer id, alone, on stdout.
#[expect(clippy::print_stdout, reason = "the peer id is what the user asks for")]
pub(crate) fn run(options: &args::Id) -> Exit {
    match key::load(options.key.key.as_deref(), PEER_KEY) {
        Ok(key) => {
            println!("{}", key.peer_id());
            Exit::DONE
        }
        Err(error) => Exit::usage(&error),
    }
}
