//! Runs of many seeds on all cores, each held to the oracle.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{ops::Range, thread};

use netns_lab::LinkSpec;
use netns_lab::puncher::{Path, Trial, TrialOutcome, trial};
use p2pconnect_punch::Event;
use p2pconnect_tests::kinds::Kind;

use crate::expected;

/// A peer's system calls take a moment, and not always the same.
const JITTER: Duration = Duration::from_micros(200);

/// What the agent allows itself: on plain pairs, and where ports are guessed.
const MAX_SYNS: u32 = 200 + 1280;

/// Peers have learnt their mappings long before they dial.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is varied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) controlling: Kind,
    pub(crate) controlled: Kind,
    /// How much later the controlled side starts; negative if it is the first.
    pub(crate) skew_us: i64,
    /// From host to host.
    pub(crate) one_way: Duration,
    /// From a host to its router.
    pub(crate) last_mile: Duration,
    /// How many times as long the way by the server is.
    pub(crate) detour: u32,
    /// The probability that a packet is lost between the two hosts.
    pub(crate) loss: f64,
}

impl Scenario {
    /// On time, with 80 ms there and back as in the namespaces, and 1 ms to a
    /// router at home.
    pub(crate) const fn of(controlling: Kind, controlled: Kind) -> Self {
        Self {
            controlling,
            controlled,
            skew_us: 0,
            one_way: Duration::from_millis(40),
            last_mile: Duration::from_millis(1),
            detour: 1,
            loss: 0.0,
        }
    }

    fn run(self, seed: u64) -> TrialOutcome {
        let half = self.one_way / 2;
        let access = |kind: Kind| {
            let inside = if kind.boxes.is_empty() {
                Duration::ZERO
            } else {
                self.last_mile
            };
            // Each way has two of these links.
            LinkSpec::delay(half.saturating_sub(inside))
                .jitter(JITTER)
                .loss(1.0 - (1.0 - self.loss).sqrt())
        };
        let late = Duration::from_micros(self.skew_us.unsigned_abs());
        let path = Path {
            peer: LinkSpec::delay(half),
            server: LinkSpec::delay(half * (self.detour - 1)),
        };
        let chains = [self.controlling.boxes, self.controlled.boxes];
        let outcome = trial(&Trial {
            access: [access(self.controlling), access(self.controlled)],
            inside: [LinkSpec::delay(self.last_mile).jitter(JITTER); 2],
            late: if self.skew_us < 0 {
                [late, Duration::ZERO]
            } else {
                [Duration::ZERO, late]
            },
            gather_limit: PATIENCE,
            ..Trial::new(chains, path, seed)
        });
        outcome.unwrap_or_else(|error| panic!("{error}: {}", self.again(seed)))
    }

    /// Compares a run with the oracle; returns when the later side was done.
    fn check(self, seed: u64) -> Duration {
        let outcome = self.run(seed);
        let again = || format!("{}\n{outcome:#?}", self.again(seed));
        let views = [
            expected::verdict(self.controlling, self.controlled),
            expected::verdict(self.controlled, self.controlling),
        ];
        for (side, expected) in outcome.sides.iter().zip(views) {
            assert!(!side.again, "two outcomes: {}", again());
            assert!(side.stats.attempts <= MAX_SYNS, "{}", again());
            match (&side.event, expected) {
                (Event::Established { .. }, None) => {
                    assert!(outcome.same_connection, "different ends: {}", again());
                }
                (Event::Failed(report), Some(verdict)) => {
                    assert_eq!(report.verdict, verdict, "{}", again());
                    let text = report.to_string();
                    let why = "address-and-port-dependent mapping";
                    assert!(text.contains(why), "{text}");
                }
                (Event::Established { .. }, Some(_)) | (Event::Failed(_), None) => {
                    panic!("expected {expected:?}: {}", again());
                }
            }
        }
        outcome.after_both_started()
    }

    /// Returns how many attempts both sides had to repeat.
    pub(crate) fn redials(self, seed: u64) -> u32 {
        let outcome = self.run(seed);
        assert!(outcome.same_connection, "{}", self.again(seed));
        outcome.sides.iter().map(|side| side.stats.redials).sum()
    }

    /// Says how to run it again.
    fn again(self, seed: u64) -> String {
        format!("P2PCONNECT_SIM_SEED={seed} {self:?}")
    }
}

/// Returns the seeds, or the one that is asked for.
pub(crate) fn seeds(seeds: Range<u64>) -> Range<u64> {
    let wanted: Option<u64> = std::env::var("P2PCONNECT_SIM_SEED")
        .ok()
        .map(|seed| seed.parse().expect("P2PCONNECT_SIM_SEED is a number"));
    wanted.map_or(seeds, |seed| seed..seed + 1)
}

/// Runs each scenario with each seed; returns the times of each, in order.
pub(crate) fn sweep(
    scenarios: &[Scenario],
    range: Range<u64>,
    vary: impl Fn(Scenario, u64) -> Scenario + Sync,
) -> Vec<Vec<Duration>> {
    println!("seeds {range:?} of each of {} scenarios", scenarios.len());
    in_parallel(scenarios, |scenario| {
        let times = seeds(range.clone()).map(|seed| vary(*scenario, seed).check(seed));
        let mut times: Vec<_> = times.collect();
        times.sort();
        times
    })
}

/// Does the work for all items on all cores; returns what came of it in order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    let result = work(item);
                    done.lock().expect("no holder panics").push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no holder panics");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
