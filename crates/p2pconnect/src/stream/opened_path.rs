//! A TCP connection that a stream runs over, and what it took to make it.

use std::time::Instant;

use p2pconnect_host::clock;
use p2pconnect_punch::{CandidatePair, How, Stats};

/// How a connection was opened, between which addresses, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenedPath {
    pub(crate) pair: CandidatePair,
    pub(crate) how: How,
    pub(crate) at: Instant,
}

/// An opened path on which bytes can be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsablePath {
    pub(crate) opened: OpenedPath,
    /// How many attempts to connect it took to open the path.
    pub(crate) stats: Stats,
    /// Since when bytes can be sent on the path.
    pub(crate) since: Instant,
}

impl UsablePath {
    /// Returns a path on which bytes can be sent from now on.
    pub(crate) fn new(opened: OpenedPath, stats: Stats) -> Self {
        let since = clock::now();
        Self {
            opened,
            stats,
            since,
        }
    }
}
