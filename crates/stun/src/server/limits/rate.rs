//! How often a network may ask: the generic cell rate algorithm (ITU-T I.371).

use std::time::Duration;

use tokio::time::Instant;

use super::network::Network;

/// So many requests a second in the long run, and some more at once.
///
/// Of each network the time is kept at which everything that it has asked so far would be used up
/// at that rate (the theoretical arrival time).
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// The time that one request costs in the long run.
    cost: Duration,
    /// How much of that time may be used up in advance.
    burst: Duration,
}

impl Rate {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let cost = Duration::from_secs(1) / per_second.max(1);
        Self {
            cost,
            burst: cost * burst,
        }
    }

    /// Returns by how much another request would be too early.
    pub(super) fn delay(self, paid_until: Instant, network: Network, now: Instant) -> Duration {
        let used = paid_until.max(now) + self.cost / network.shares();
        used.saturating_duration_since(now)
            .saturating_sub(self.burst)
    }

    /// Counts a request.
    pub(super) fn pay(self, paid_until: &mut Instant, network: Network, now: Instant) {
        *paid_until = (*paid_until).max(now) + self.cost / network.shares();
    }
}
