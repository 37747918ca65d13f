//! What is counted while a coordinator serves, for whoever watches it.
//!
//! Counting is one addition to a number of its own, without a lock. What can be looked up instead
//! is looked up when somebody asks.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Which of the metrics of one name a value is of: names and values, none of them a user's.
pub type Labels = Vec<(&'static str, &'static str)>;

/// All metrics of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// The name, without what a format puts behind it.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub help: &'static str,
    /// The values.
    pub values: Values,
}

/// What metrics are worth at a moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers that only grow.
    Counters(Vec<(Labels, u64)>),
    /// Numbers that go up and down.
    Gauges(Vec<(Labels, u64)>),
    /// How long something takes.
    Histogram(Durations),
}

/// How often something took how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Durations {
    /// All times together, in seconds.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
    /// The longest time that counts for each, in seconds and the last one without an end, and how
    /// many there were of these and no shorter ones.
    pub buckets: Vec<(f64, u64)>,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bounds of what is told apart, in microseconds: from work that nobody notices to a wait that
/// everybody does.
const BOUNDS: [u64; 13] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000,
];

/// Counts how often something takes how long.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [Counter; BOUNDS.len() + 1],
    micros: Counter,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[BOUNDS.partition_point(|bound| *bound < micros)].add(1);
        self.micros.add(micros);
    }

    pub(crate) fn get(&self) -> Durations {
        let in_seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
        let bounds = BOUNDS.into_iter().map(in_seconds).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.counts.iter().map(Counter::get)).collect();
        Durations {
            sum: in_seconds(self.micros.get()),
            // Of the same moment as the buckets.
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_by_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 1_000_000, 2_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let Durations {
            sum,
            count,
            buckets,
        } = histogram.get();
        assert_eq!(count, 5);
        assert!((sum - 3.000_201).abs() < 1e-9, "{sum}");
        let counts: Vec<_> = buckets.iter().map(|it| it.1).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert!(buckets.last().is_some_and(|it| it.0 == f64::INFINITY));
    }
}
