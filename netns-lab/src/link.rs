//! What a link does to packets: delay, jitter, loss. Pure: no socket, no clock.

use std::time::Duration;

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The behaviour of an access link, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinkSpec {
    delay: Duration,
    jitter: Duration,
    loss: f64,
    reorders: bool,
}

impl LinkSpec {
    /// Returns a link that delays every packet by `one_way` and loses none.
    pub const fn delay(one_way: Duration) -> Self {
        Self {
            delay: one_way,
            jitter: Duration::ZERO,
            loss: 0.0,
            reorders: false,
        }
    }

    /// Adds a random delay between zero and `most` to every packet.
    #[must_use]
    pub const fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    /// Loses every packet with this probability, independently of the others.
    #[must_use]
    pub const fn loss(mut self, probability: f64) -> Self {
        self.loss = probability;
        self
    }

    /// Lets jitter change the order of packets, which a single queue would not.
    #[must_use]
    pub const fn reordering(mut self) -> Self {
        self.reorders = true;
        self
    }

    /// Returns the probability that a packet is lost.
    pub(crate) const fn loss_probability(&self) -> f64 {
        self.loss
    }
}

/// One direction of a link.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    spec: LinkSpec,
    random: ChaCha8Rng,
    last_exit: Duration,
}

impl Link {
    /// Makes one direction of a link; the seed decides all its randomness.
    pub(crate) fn new(spec: LinkSpec, seed: u64) -> Self {
        Self {
            spec,
            random: ChaCha8Rng::seed_from_u64(seed),
            last_exit: Duration::ZERO,
        }
    }

    /// Returns when a packet that enters at `now` leaves, or `None` if it is lost.
    ///
    /// Times count from any fixed moment and must not go back.
    pub(crate) fn carry(&mut self, now: Duration) -> Option<Duration> {
        // Both draws are always made: a packet's fate must not depend on
        // whether another knob of the link is turned.
        let lost = self.random.random::<f64>() < self.spec.loss;
        let jitter = self.spec.jitter.mul_f64(unit(self.random.next_u32()));
        if lost {
            return None;
        }
        let exit = now + self.spec.delay + jitter;
        if self.spec.reorders {
            return Some(exit);
        }
        self.last_exit = self.last_exit.max(exit);
        Some(self.last_exit)
    }
}

/// Maps a random number to 0..1.
fn unit(number: u32) -> f64 {
    f64::from(number) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn carry_all(spec: LinkSpec, seed: u64, packets: u32, gap: Duration) -> Vec<Option<Duration>> {
        let mut link = Link::new(spec, seed);
        (0..packets).map(|n| link.carry(gap * n)).collect()
    }

    #[test]
    fn delay_is_exact() {
        let exits = carry_all(LinkSpec::delay(20 * MS), 1, 100, MS);
        for (n, exit) in (0..).zip(exits) {
            assert_eq!(exit, Some(MS * n + 20 * MS));
        }
    }

    #[test]
    fn loss_comes_near_its_probability() {
        for (loss, seed) in [(0.01, 3), (0.1, 4), (0.5, 5), (0.0, 6), (1.0, 7)] {
            let exits = carry_all(LinkSpec::default().loss(loss), seed, 100_000, MS);
            let lost = exits.iter().filter(|exit| exit.is_none()).count() as f64 / 100_000.0;
            // Five standard deviations of the widest case are 0.008.
            assert!(
                (lost - loss).abs() < 0.008,
                "seed {seed}: asked {loss}, lost {lost}"
            );
        }
    }

    #[test]
    fn reordering_happens_only_when_asked_for() {
        let jittery = LinkSpec::delay(MS).jitter(10 * MS);
        assert!(carry_all(jittery, 9, 1000, MS).is_sorted());
        assert!(!carry_all(jittery.reordering(), 9, 1000, MS).is_sorted());
    }

    proptest! {
        #[test]
        fn the_seed_decides_everything(seed: u64, loss in 0.0..1.0, jitter in 0u32..50) {
            let spec = LinkSpec::delay(5 * MS).jitter(jitter * MS).loss(loss);
            prop_assert_eq!(carry_all(spec, seed, 200, MS), carry_all(spec, seed, 200, MS));
        }

        #[test]
        fn delay_and_order_are_kept(seed: u64, jitter in 0u32..50, gap_us in 0u64..5000) {
            let spec = LinkSpec::delay(5 * MS).jitter(jitter * MS);
            let gap = Duration::from_micros(gap_us);
            let exits = carry_all(spec, seed, 200, gap);
            prop_assert!(exits.is_sorted());
            let latest_so_far = exits.iter().flatten().max().copied().unwrap_or_default();
            for (n, exit) in (0..).zip(&exits) {
                let taken = exit.expect("nothing is lost without loss") - gap * n;
                prop_assert!(taken >= 5 * MS);
                prop_assert!(gap * n + taken <= latest_so_far);
                // Behind a delayed packet a queue waits, but never beyond the most jitter.
                prop_assert!(taken <= 5 * MS + jitter * MS);
            }
        }

        #[test]
        fn loss_does_not_change_the_delay_of_the_others(seed: u64, loss in 0.0..1.0) {
            let spec = LinkSpec::delay(MS).jitter(9 * MS).reordering();
            let without = carry_all(spec, seed, 100, MS);
            for (kept, sent) in carry_all(spec.loss(loss), seed, 100, MS).iter().zip(&without) {
                prop_assert!(kept.is_none() || kept == sent);
            }
        }
    }
}
