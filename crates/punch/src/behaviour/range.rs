//! Which range a NAT draws random ports from, by the ports that it has given out.
//!
//! A subscriber's block may have any size and begin anywhere (RFC 7422 section 2 has examples of
//! 2,000 ports; Juniper's blocks begin at 1,024), so nothing is rounded. What is certain is that
//! each port between the lowest and the highest that was seen is in the range. How far the range
//! goes on beyond these two is estimated from the gaps between the ports, as the number of tanks is
//! from the serial numbers of a few.

use std::collections::BTreeSet;

use super::{MIN_RANGE_SAMPLES, WHOLE_RANGE};

/// By how many mean gaps the range is taken to go on at each end.
///
/// What is missing at both ends together is larger than eight mean gaps in 0.3 % of cases (a gamma
/// distribution of shape 2), and by a gap or two then, so that a range that is filled lacks a few
/// ports of a thousand. Ports that no NAT has cost a SYN each; a port that is left out may be the
/// one that counts.
const MARGIN: u32 = 4;

/// What the ports that a random allocator gave out say of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenRange {
    lowest: u16,
    highest: u16,
    count: u32,
}

impl SeenRange {
    /// Concludes from ports, each counted once, if there are [`MIN_RANGE_SAMPLES`] of them.
    #[must_use]
    pub fn of(ports: impl IntoIterator<Item = u16>) -> Option<Self> {
        let ports: BTreeSet<_> = ports.into_iter().collect();
        let (lowest, highest) = (*ports.first()?, *ports.last()?);
        // There are 65,536 ports.
        let count = ports.len() as u32;
        (ports.len() >= MIN_RANGE_SAMPLES).then_some(Self {
            lowest,
            highest,
            count,
        })
    }

    /// Returns what these ports say together with others, as far as the others may be of the same
    /// range.
    ///
    /// A port that is further away is another NAT's, or was kept.
    #[must_use]
    pub fn with_others(samples: &BTreeSet<u16>, others: &BTreeSet<u16>) -> Option<Self> {
        let (first, last) = Self::of(samples.iter().copied())?.bounds();
        let near = others.range(first..=last);
        Self::of(samples.iter().chain(near).copied())
    }

    /// Returns the first and the last port that the range may have. It hardly ever has more ports;
    /// it may have fewer.
    #[must_use]
    pub fn bounds(self) -> (u16, u16) {
        let spread = u32::from(self.highest - self.lowest);
        // There are at least two ports.
        let margin = (MARGIN * spread).div_ceil(self.count - 1);
        let margin = u16::try_from(margin).unwrap_or(u16::MAX);
        let least = WHOLE_RANGE.0.min(self.lowest);
        (
            self.lowest.saturating_sub(margin).max(least),
            self.highest.saturating_add(margin),
        )
    }

    /// Returns a port that is certainly in the range, if one is not taken: the one in its middle,
    /// or the nearest above or else below that.
    #[must_use]
    pub fn free_port(self, taken: &BTreeSet<u16>) -> Option<u16> {
        let middle = self.lowest.midpoint(self.highest);
        let above = middle..=self.highest;
        let below = (self.lowest..middle).rev();
        above
            .chain(below)
            .find(|port| *port != 0 && !taken.contains(port))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::ops::RangeInclusive;

    use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// What is seen of a block in practice: thirteen samples, and a few other connections.
    const SEEN: usize = 18;

    /// Draws ports of a block, each once.
    fn draw(block: RangeInclusive<u16>, count: usize, random: &mut ChaCha8Rng) -> BTreeSet<u16> {
        let mut ports: Vec<u16> = block.collect();
        let (drawn, _) = ports.partial_shuffle(random, count);
        drawn.iter().copied().collect()
    }

    /// A block of any size that begins anywhere.
    fn block(random: &mut ChaCha8Rng) -> (u16, u16) {
        let size = random.random_range(64..=4000);
        (random.random_range(1024..=u16::MAX - size), size)
    }

    #[test]
    fn a_range_is_hardly_ever_larger_than_it_is_taken_for() {
        const DRAWS: u32 = 5000;
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let (mut short, mut missing, mut found) = (0, 0.0, 0.0);
        for _ in 0..DRAWS {
            let (first, size) = block(&mut random);
            let seen = draw(first..=first + (size - 1), SEEN, &mut random);
            let (from, to) = SeenRange::of(seen).unwrap().bounds();
            let taken_for = u32::from(to - from) + 1;
            let size = u32::from(size);
            short += u32::from(taken_for < size);
            missing += f64::from(size.saturating_sub(taken_for)) / f64::from(size);
            found += f64::from(taken_for) / f64::from(size);
        }
        assert!(short < DRAWS / 100, "{short} of {DRAWS} too short");
        assert!(missing < f64::from(DRAWS) / 1000.0, "{missing}");
        assert!(found < f64::from(DRAWS) * 1.4, "{found}: a waste of SYNs");
    }

    #[test]
    fn the_port_that_is_named_is_of_the_block_and_free() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        for _ in 0..2000 {
            let (first, size) = block(&mut random);
            let seen = draw(first..=first + (size - 1), SEEN, &mut random);
            let named = SeenRange::of(seen.iter().copied())
                .unwrap()
                .free_port(&seen);
            let port = named.unwrap();
            assert!((first..first + size).contains(&port) && !seen.contains(&port));
        }
        let all: BTreeSet<u16> = (5000..5020).collect();
        let full = SeenRange::of(all.iter().copied()).unwrap();
        assert_eq!(full.free_port(&all), None);
        for port in [5002, 5019] {
            let but_one = all.iter().copied().filter(|it| *it != port).collect();
            assert_eq!(full.free_port(&but_one), Some(port));
        }
    }

    #[test]
    fn few_ports_say_nothing_of_a_range() {
        let seven = [2049, 2300, 2200, 2111, 2077, 2101, 2290];
        assert_eq!(SeenRange::of(seven), None);
        let twice = seven.into_iter().chain([2049]);
        assert_eq!(SeenRange::of(twice), None);
        assert!(SeenRange::of(seven.into_iter().chain([2303])).is_some());
        assert_eq!(SeenRange::of([]), None);
    }

    #[test]
    fn ranges_end_where_ports_do() {
        let ports = |range: [u16; 8]| SeenRange::of(range).unwrap().bounds();
        let all = [1030, 32_000, 60_000, 2111, 9077, 45_101, 7290, 65_500];
        assert_eq!(ports(all), WHOLE_RANGE);
        let dynamic = [
            50_001, 65_000, 51_234, 60_100, 58_000, 55_555, 53_000, 63_000,
        ];
        assert_eq!(ports(dynamic), (41_430, u16::MAX));
        let well_known = [600, 32_768, 603, 700, 701, 710, 720, 730];
        assert_eq!(ports(well_known).0, 600);
    }

    #[test]
    fn others_count_where_they_may_be_of_the_same_range() {
        let samples: BTreeSet<u16> = (0..13).map(|n| 20_000 + 10 * n).collect();
        let alone = SeenRange::of(samples.iter().copied()).unwrap();
        assert_eq!(alone.bounds(), (19_960, 20_160));
        let with = |others: [u16; 3]| {
            let others = BTreeSet::from(others);
            SeenRange::with_others(&samples, &others).unwrap().bounds()
        };
        // Another NAT's, one that was kept, and one that is known already.
        assert_eq!(with([19_900, 40_000, 20_010]), alone.bounds());
        assert_eq!(with([19_965, 20_150, 20_010]), (19_912, 20_203));
    }
}
