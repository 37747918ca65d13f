//! What a link does to packets: delay, jitter, loss, outage. Pure: no socket, no clock.

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
    bursts: Option<BurstLoss>,
    outage: Option<(Duration, Duration)>,
}

/// Loss that comes in bursts: the model of Gilbert and Elliott, with a good
/// state that loses nothing.
///
/// Each packet may change the state, and then meets it. Of many packets
/// `loss * enter / (enter + leave)` are lost, in bursts of `1 / leave` on
/// average. Probabilities beyond 0 to 1 count as the nearer of the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurstLoss {
    /// The probability that a packet in the good state begins the bad one.
    pub enter: f64,
    /// The probability that a packet in the bad state ends it.
    pub leave: f64,
    /// The probability that a packet in the bad state is lost.
    pub loss: f64,
}

impl LinkSpec {
    /// Returns a link that delays every packet by `one_way` and loses none.
    pub const fn delay(one_way: Duration) -> Self {
        Self {
            delay: one_way,
            jitter: Duration::ZERO,
            loss: 0.0,
            reorders: false,
            bursts: None,
            outage: None,
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

    /// Loses packets in bursts as well.
    #[must_use]
    pub const fn burst_loss(mut self, bursts: BurstLoss) -> Self {
        self.bursts = Some(bursts);
        self
    }

    /// Loses every packet that enters at `from` or later and before `until`,
    /// counted from the start of the lab.
    #[must_use]
    pub const fn outage(mut self, from: Duration, until: Duration) -> Self {
        self.outage = Some((from, until));
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
    /// Of its own, so that bursts change nothing for the packets they spare.
    burst_random: ChaCha8Rng,
    in_burst: bool,
    last_exit: Duration,
}

impl Link {
    /// Makes one direction of a link; the seed decides all its randomness.
    pub(crate) fn new(spec: LinkSpec, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let mut burst_random = random.clone();
        burst_random.set_stream(1);
        Self {
            spec,
            random,
            burst_random,
            in_burst: false,
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
        let lost_in_burst = self.loses_in_burst();
        let is_down = |(from, until)| (from..until).contains(&now);
        if lost || lost_in_burst || self.spec.outage.is_some_and(is_down) {
            return None;
        }
        let exit = now + self.spec.delay + jitter;
        if self.spec.reorders {
            return Some(exit);
        }
        self.last_exit = self.last_exit.max(exit);
        Some(self.last_exit)
    }

    /// Takes the burst model a packet further, and returns whether it is lost.
    fn loses_in_burst(&mut self) -> bool {
        let Some(bursts) = self.spec.bursts else {
            return false;
        };
        let change = if self.in_burst {
            bursts.leave
        } else {
            bursts.enter
        };
        self.in_burst ^= self.burst_random.random::<f64>() < change;
        let lost = self.burst_random.random::<f64>() < bursts.loss;
        self.in_burst && lost
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
    fn bursts_are_as_frequent_and_as_long_as_asked_for() {
        for (enter, leave, loss, seed) in [
            (0.01, 0.25, 1.0, 3),
            (0.05, 0.1, 0.5, 4),
            (0.0, 0.5, 1.0, 5),
            (2.0, -1.0, 1.0, 6),
        ] {
            let bursts = BurstLoss { enter, leave, loss };
            let spec = LinkSpec::default().burst_loss(bursts);
            let lost: Vec<_> = carry_all(spec, seed, 200_000, MS)
                .iter()
                .map(Option::is_none)
                .collect();
            let total = lost.iter().filter(|lost| **lost).count() as f64;
            let share = total / 200_000.0;
            let (enter, leave) = (enter.clamp(0.0, 1.0), leave.clamp(0.0, 1.0));
            let expected = loss * enter / (enter + leave);
            // Neighbours go together, so that this is some five standard deviations.
            assert!((share - expected).abs() < 0.02, "seed {seed}: {share}");
            if loss == 1.0 && leave > 0.0 && total > 0.0 {
                let ends = lost.windows(2).filter(|pair| pair[0] && !pair[1]).count() as f64;
                let length = total / ends;
                assert!((length * leave - 1.0).abs() < 0.1, "seed {seed}: {length}");
            }
        }
    }

    #[test]
    fn an_outage_loses_what_enters_in_it() {
        let spec = LinkSpec::delay(20 * MS).outage(10 * MS, 30 * MS);
        for (n, exit) in (0..).zip(carry_all(spec, 1, 100, MS)) {
            let expected = (!(10..30).contains(&n)).then_some(MS * n + 20 * MS);
            assert_eq!(exit, expected, "{n}");
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
            let bursts = BurstLoss { enter: loss, leave: 0.3, loss: 0.9 };
            for lossy in [
                spec.loss(loss),
                spec.burst_loss(bursts),
                spec.outage(9 * MS, 40 * MS),
            ] {
                for (kept, sent) in carry_all(lossy, seed, 100, MS).iter().zip(&without) {
                    prop_assert!(kept.is_none() || kept == sent);
                }
            }
        }

        #[test]
        fn the_seed_decides_bursts(seed: u64, enter in 0.0..1.0, leave in 0.0..1.0) {
            let bursts = BurstLoss { enter, leave, loss: 0.7 };
            let spec = LinkSpec::delay(MS).jitter(MS).burst_loss(bursts);
            prop_assert_eq!(carry_all(spec, seed, 200, MS), carry_all(spec, seed, 200, MS));
        }
    }
}
