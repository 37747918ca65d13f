//! The ports that a host chooses itself.

use std::ops::RangeInclusive;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The range of Linux (`net.ipv4.ip_local_port_range`).
const RANGE: RangeInclusive<u16> = 32_768..=60_999;

/// Chooses ports by the seed of its host.
#[derive(Debug)]
pub(super) struct Ephemeral(ChaCha8Rng);

impl Ephemeral {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Returns the first free port behind a random one.
    pub(super) fn choose(&mut self, is_free: impl Fn(u16) -> bool) -> Option<u16> {
        let start = self.0.random_range(RANGE);
        (start..=*RANGE.end())
            .chain(*RANGE.start()..start)
            .find(|port| is_free(*port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_of_the_range_is_found_and_no_other() {
        let mut ports = Ephemeral::new(3);
        for wanted in [*RANGE.start(), 40_000, *RANGE.end()] {
            assert_eq!(ports.choose(|port| port == wanted), Some(wanted));
        }
        assert_eq!(ports.choose(|port| !RANGE.contains(&port)), None);
        assert_ne!(ports.choose(|_| true), ports.choose(|_| true));
    }
}
