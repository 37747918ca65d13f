//! What this machine has run out of.
//!
//! Where there is no file or no memory left, whatever asks for it first fails, and says something
//! of a peer or a server that has done nothing wrong. What the machine lacked is told instead.
//! Files and memory belong to the process and the machine, not to an endpoint, so what is noted
//! here is, too.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::clock;

/// The newest shortage that this process has met, and when.
static NEWEST: Mutex<Option<(Instant, Shortage)>> = Mutex::new(None);

/// Something that this machine has run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Shortage {
    /// This process has as many open files and sockets as it may (EMFILE).
    #[error(
        "this process has as many open files as it may; raise its limit (ulimit -n, or LimitNOFILE= of \
         systemd)"
    )]
    Files,
    /// The machine has as many open files and sockets as it may (ENFILE).
    #[error(
        "this machine has as many open files as it may; raise fs.file-max, or end other programs"
    )]
    FilesOfMachine,
    /// There is no memory for another socket (ENOMEM, ENOBUFS).
    #[error("this machine has no memory left for another socket")]
    Memory,
}

impl Shortage {
    /// Returns the shortage that an error of the system tells of, if it tells of one.
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error() {
            Some(libc::EMFILE) => Some(Self::Files),
            Some(libc::ENFILE) => Some(Self::FilesOfMachine),
            Some(libc::ENOBUFS | libc::ENOMEM) => Some(Self::Memory),
            _ if error.kind() == io::ErrorKind::OutOfMemory => Some(Self::Memory),
            _ => None,
        }
    }
}

/// Notes a shortage if the error tells of one, and returns it.
pub fn note(error: &io::Error) -> Option<Shortage> {
    let shortage = Shortage::of(error)?;
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    *newest = Some((clock::now(), shortage));
    Some(shortage)
}

/// Returns the newest shortage, if there was one since then.
pub fn since(began: Instant) -> Option<Shortage> {
    let newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, shortage) = newest.filter(|(at, _)| *at >= began)?;
    Some(shortage)
}
