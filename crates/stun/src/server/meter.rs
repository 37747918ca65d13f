//! What a server counts, for whoever watches it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::Shared;

/// Counts of what a server does. Counting takes no lock.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) datagrams: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) too_fast: AtomicU64,
}

impl Counts {
    pub(super) fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Measures a server. Clones measure the same one, and none keeps it going.
#[derive(Debug, Clone)]
pub struct StunMeter {
    shared: Arc<Shared>,
}

impl StunMeter {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns how many connections there are now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.limits().connections() as u64
    }

    /// Returns how many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.counts.accepted.load(Ordering::Relaxed)
    }

    /// Returns how many connections were refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.counts.refused.load(Ordering::Relaxed)
    }

    /// Returns how many messages have come so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.counts.requests.load(Ordering::Relaxed)
    }

    /// Returns how many datagrams were answered so far.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.shared.counts.datagrams.load(Ordering::Relaxed)
    }

    /// Returns how many datagrams were no Binding request so far, and not answered.
    #[must_use]
    pub fn foreign(&self) -> u64 {
        self.shared.counts.foreign.load(Ordering::Relaxed)
    }

    /// Returns how many datagrams were not answered so far since their network asks too fast.
    #[must_use]
    pub fn too_fast(&self) -> u64 {
        self.shared.counts.too_fast.load(Ordering::Relaxed)
    }
}
