//! On which connections the peer is heard, whatever a coordinator says of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How many connections have brought the peer's opening and are being verified.
///
/// The system resets the connections of a process that is killed, so whoever has said something on
/// one that is open is there. A coordinator that hears nothing of the peer may just be out of its
/// reach.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hearings(Arc<AtomicUsize>);

impl Hearings {
    /// Notes that the peer is heard on a connection, until what this returns is dropped.
    pub(crate) fn begin(&self) -> Hearing {
        self.0.fetch_add(1, Ordering::Relaxed);
        Hearing(Arc::clone(&self.0))
    }

    /// Tells whether the peer is heard on any.
    pub(crate) fn are_there(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// A connection on which the peer is heard.
#[derive(Debug)]
pub(crate) struct Hearing(Arc<AtomicUsize>);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
