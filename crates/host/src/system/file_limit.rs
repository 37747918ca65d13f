//! How many files the process may have open.

use std::io;

/// Lets this process have as many files open as it may, and returns how many that are.
///
/// Reaching a peer whose NAT gives each connection a random port takes up to 3,200 sockets for a
/// moment; Linux allows a process 1,024 unless it asks for more. Such attempts take half of what is
/// allowed at most, so without this some more of them fail. The limit is that of the process, so a
/// program that embeds an endpoint decides for itself: `select(2)` fails on files beyond the
/// 1,024th, which only old libraries still call.
///
/// # Errors
///
/// What the system reports; the limit stays as it was.
pub fn raise_file_limit() -> io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let all = Rlimit {
            current: maximum,
            maximum,
        };
        setrlimit(Resource::Nofile, all)?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Returns how many files this process may have open now.
pub(super) fn files_allowed() -> u64 {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
