//! How a cell did, measured by what the oracle says.

use std::time::Duration;

use super::{Cell, Expected, Report, Series};

/// How much longer than the path takes the median of a cell may be.
const MAX_RATIO: f64 = 1.3;

/// The fewest runs whose median is judged: of fewer, a single one that needed a second try decides.
const MIN_RUNS: u32 = 10;

/// How long a pair that cannot connect may be tried.
const MAX_GIVING_UP: Duration = Duration::from_secs(1);

/// Runs that did worse than this chance allows are taken for failures.
const UNLIKELY: f64 = 0.01;

/// How a cell did, measured by what the oracle says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It connected as often as the oracle lets expect.
    AsExpected,
    /// It connected, but not as often as the oracle lets expect.
    TooSeldom,
    /// It connected as often as the oracle lets expect, but half of the time much later than the
    /// path allows.
    Slow,
    /// It never connected, though the oracle allows it.
    Failed,
    /// It never connected, as the oracle said.
    Impossible,
    /// It never connected, as the oracle said, but that was found out late.
    GaveUpLate,
    /// It connected although the oracle says that it cannot: the oracle is wrong.
    Alarm,
    /// It was not run.
    NotRun,
}

impl Standing {
    /// Returns whether the cell is on the work list.
    pub const fn is_work(self) -> bool {
        matches!(self, Self::TooSeldom | Self::Slow | Self::Failed)
    }

    /// Returns whether the cell contradicts the oracle or its limits.
    pub const fn is_alarm(self) -> bool {
        matches!(self, Self::Alarm | Self::GaveUpLate)
    }

    /// Returns the standing in a few words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AsExpected => "as expected",
            Self::TooSeldom => "too seldom",
            Self::Slow => "too slow",
            Self::Failed => "failed",
            Self::Impossible => "impossible",
            Self::GaveUpLate => "given up late",
            Self::Alarm => "against the oracle",
            Self::NotRun => "not run",
        }
    }
}

impl Cell {
    /// Returns how the cell did.
    ///
    /// Where the oracle gives a chance, few successes count as a failure only if they are less
    /// likely than one in a hundred; no success at all always does, so that nothing is hidden by
    /// bad luck. Of enough runs the median must be within 1.3 times what the path takes; what
    /// cannot connect must be given up within a second.
    pub fn standing(&self) -> Standing {
        if self.runs == 0 {
            return Standing::NotRun;
        }
        match (self.expected.allows(), self.successes) {
            (false, 0) if self.gave_up.is_some_and(|after| after > MAX_GIVING_UP) => {
                Standing::GaveUpLate
            }
            (false, 0) => Standing::Impossible,
            (false, _) => Standing::Alarm,
            (true, 0) => Standing::Failed,
            (true, successes) => match self.expected {
                Expected::Chance(chance)
                    if at_most(successes, self.runs, chance.min(1.0)) >= UNLIKELY =>
                {
                    self.in_time()
                }
                Expected::Certain if successes >= self.runs => self.in_time(),
                Expected::Certain | Expected::Chance(_) | Expected::Impossible => {
                    Standing::TooSeldom
                }
            },
        }
    }

    /// Judges the times of a cell that connects often enough.
    fn in_time(&self) -> Standing {
        match self.ratio() {
            Some(ratio) if self.runs >= MIN_RUNS && ratio > MAX_RATIO => Standing::Slow,
            Some(_) | None => Standing::AsExpected,
        }
    }
}

/// How many cells of a series stand how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) run: usize,
    pub(super) allowed: usize,
    pub(super) connected: usize,
    pub(super) work: usize,
    pub(super) alarms: usize,
}

impl Series {
    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for cell in &self.cells {
            let standing = cell.standing();
            tally.run += usize::from(standing != Standing::NotRun);
            tally.allowed += usize::from(standing != Standing::NotRun && cell.expected.allows());
            let connected = matches!(standing, Standing::AsExpected | Standing::Slow);
            tally.connected += usize::from(connected);
            tally.work += usize::from(standing.is_work());
            tally.alarms += usize::from(standing.is_alarm());
        }
        tally
    }

    pub(super) fn cell(&self, dialler: usize, listener: usize) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|cell| cell.dialler == dialler && cell.listener == listener)
    }
}

impl Report {
    /// Returns every cell that the oracle allows and that failed, or connected less often or more
    /// slowly than it should, with the series it is of.
    pub fn work_list(&self) -> Vec<(&Series, &Cell)> {
        self.cells_that(Standing::is_work)
    }

    /// Returns every cell that connected although the oracle says that it cannot, or was given up
    /// too late, with the series it is of.
    pub fn alarms(&self) -> Vec<(&Series, &Cell)> {
        self.cells_that(Standing::is_alarm)
    }

    fn cells_that(&self, wanted: impl Fn(Standing) -> bool) -> Vec<(&Series, &Cell)> {
        let mut found: Vec<_> = self
            .series
            .iter()
            .flat_map(|series| series.cells.iter().map(move |cell| (series, cell)))
            .filter(|(_, cell)| wanted(cell.standing()))
            .collect();
        // Those that never connect come before those that sometimes do.
        found.sort_by_key(|(_, cell)| cell.standing() != Standing::Failed);
        found
    }
}

/// Returns how likely it is that at most `successes` of `runs` succeed.
fn at_most(successes: u32, runs: u32, chance: f64) -> f64 {
    if successes >= runs {
        return 1.0;
    }
    if chance >= 1.0 {
        return 0.0;
    }
    // In logarithms, since the first terms of many runs are very small.
    let odds = (chance / (1.0 - chance)).ln();
    let mut term = f64::from(runs) * (1.0 - chance).ln();
    let mut sum = term.exp();
    for k in 1..=successes {
        term += (f64::from(runs - k + 1) / f64::from(k)).ln() + odds;
        sum += term.exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_chance_of_few_successes_is_binomial() {
        let near = |left: f64, right: f64| assert!((left - right).abs() < 1e-9, "{left} {right}");
        near(at_most(0, 3, 0.5), 0.125);
        near(at_most(1, 3, 0.5), 0.5);
        near(at_most(2, 3, 0.5), 0.875);
        near(at_most(3, 3, 0.5), 1.0);
        near(at_most(0, 1, 1.0), 0.0);
        assert!(at_most(5_000, 100_000, 0.5) < 1e-300);
    }

    fn empty(runs: u32, successes: u32, expected: Expected) -> Cell {
        Cell {
            dialler: 0,
            listener: 0,
            runs,
            successes,
            median: None,
            p95: None,
            worst: None,
            bound: None,
            gave_up: None,
            how: Vec::new(),
            expected,
            reason: String::new(),
            failure: None,
            ladder: None,
        }
    }

    fn cell(runs: u32, successes: u32, expected: Expected) -> Standing {
        empty(runs, successes, expected).standing()
    }

    #[test]
    fn a_median_is_judged_by_the_path_if_there_are_enough_runs() {
        let standing = |runs, median| {
            let millis = Duration::from_millis;
            let times = Cell {
                median: Some(millis(median)),
                bound: Some(millis(100)),
                ..empty(runs, runs, Expected::Certain)
            };
            times.standing()
        };
        assert_eq!(standing(10, 130), Standing::AsExpected);
        assert_eq!(standing(10, 131), Standing::Slow);
        assert_eq!(standing(9, 131), Standing::AsExpected);
    }

    #[test]
    fn what_cannot_connect_is_given_up_within_a_second() {
        let standing = |millis| {
            let cell = Cell {
                gave_up: Some(Duration::from_millis(millis)),
                ..empty(3, 0, Expected::Impossible)
            };
            cell.standing()
        };
        assert_eq!(standing(1000), Standing::Impossible);
        assert_eq!(standing(1001), Standing::GaveUpLate);
    }

    #[test]
    fn a_cell_stands_as_the_oracle_lets_expect() {
        assert_eq!(cell(0, 0, Expected::Certain), Standing::NotRun);
        assert_eq!(cell(3, 3, Expected::Certain), Standing::AsExpected);
        assert_eq!(cell(3, 2, Expected::Certain), Standing::TooSeldom);
        assert_eq!(cell(3, 0, Expected::Certain), Standing::Failed);
        assert_eq!(cell(3, 0, Expected::Impossible), Standing::Impossible);
        assert_eq!(cell(3, 1, Expected::Impossible), Standing::Alarm);
        assert_eq!(cell(3, 0, Expected::Chance(0.0)), Standing::Impossible);
        assert_eq!(cell(10, 4, Expected::Chance(0.5)), Standing::AsExpected);
        assert_eq!(cell(100, 4, Expected::Chance(0.5)), Standing::TooSeldom);
        assert_eq!(cell(1, 0, Expected::Chance(0.01)), Standing::Failed);
        assert_eq!(cell(4, 3, Expected::Chance(7.0)), Standing::TooSeldom);
    }
}
