//! How a cell did, measured by what the oracle says.

use super::{Cell, Expected, Report, Series};

/// Runs that did worse than this chance allows are taken for failures.
const UNLIKELY: f64 = 0.01;

/// How a cell did, measured by what the oracle says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It connected as often as the oracle lets expect.
    AsExpected,
    /// It connected, but not as often as the oracle lets expect.
    TooSeldom,
    /// It never connected, though the oracle allows it.
    Failed,
    /// It never connected, as the oracle said.
    Impossible,
    /// It connected although the oracle says that it cannot: the oracle is wrong.
    Alarm,
    /// It was not run.
    NotRun,
}

impl Standing {
    /// Returns whether the cell is on the work list.
    pub const fn is_work(self) -> bool {
        matches!(self, Self::TooSeldom | Self::Failed)
    }
}

impl Cell {
    /// Returns how the cell did.
    ///
    /// Where the oracle gives a chance, few successes count as a failure only
    /// if they are less likely than one in a hundred; no success at all always
    /// does, so that nothing is hidden by bad luck.
    pub fn standing(&self) -> Standing {
        if self.runs == 0 {
            return Standing::NotRun;
        }
        match (self.expected.allows(), self.successes) {
            (false, 0) => Standing::Impossible,
            (false, _) => Standing::Alarm,
            (true, 0) => Standing::Failed,
            (true, successes) => match self.expected {
                Expected::Chance(chance)
                    if at_most(successes, self.runs, chance.min(1.0)) >= UNLIKELY =>
                {
                    Standing::AsExpected
                }
                Expected::Certain if successes >= self.runs => Standing::AsExpected,
                Expected::Certain | Expected::Chance(_) | Expected::Impossible => {
                    Standing::TooSeldom
                }
            },
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
            tally.connected += usize::from(standing == Standing::AsExpected);
            tally.work += usize::from(standing.is_work());
            tally.alarms += usize::from(standing == Standing::Alarm);
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
    /// Returns every cell that the oracle allows and that failed, or connected
    /// less often than it should, with the series it is of.
    pub fn work_list(&self) -> Vec<(&Series, &Cell)> {
        self.cells_that(Standing::is_work)
    }

    /// Returns every cell that connected although the oracle says that it
    /// cannot, with the series it is of.
    pub fn alarms(&self) -> Vec<(&Series, &Cell)> {
        self.cells_that(|standing| standing == Standing::Alarm)
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

    fn cell(runs: u32, successes: u32, expected: Expected) -> Standing {
        let cell = Cell {
            dialler: 0,
            listener: 0,
            runs,
            successes,
            median: None,
            worst: None,
            how: Vec::new(),
            expected,
            reason: String::new(),
            failure: None,
            ladder: None,
        };
        cell.standing()
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
