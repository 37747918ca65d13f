//! A TCP connection that a stream runs over, and what it took to make it.

use std::time::Instant;

use p2pconnect_punch::{CandidatePair, How, Stats};

/// How a connection was opened, between which addresses, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenedPath {
    pub(crate) pair: CandidatePair,
    pub(crate) how: How,
    pub(crate) at: Instant,
}

/// One connection that a stream runs over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) way: OpenedPath,
    /// What it took to make it.
    pub(crate) stats: Stats,
    /// Since when bytes can be sent on it.
    pub(crate) since: Instant,
}

impl Usage {
    /// Begins now.
    pub(crate) fn new(way: OpenedPath, stats: Stats) -> Self {
        let since = Instant::now();
        Self { way, stats, since }
    }
}
