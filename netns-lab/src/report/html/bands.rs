//! The colours of a heat map.

use std::time::Duration;

use crate::report::{Cell, Report, Standing, text::millis};

/// How many shades of time there are; the style has a class for each.
pub(super) const SHADES: usize = 5;

/// The bounds between shades of time, the same for all series.
#[derive(Debug)]
pub(super) struct Bands {
    bounds: Vec<Duration>,
}

impl Bands {
    /// Returns bands of equal ratio over the medians of all series.
    pub(super) fn of(report: &Report) -> Self {
        let cells = report.series.iter().flat_map(|series| &series.cells);
        let medians: Vec<_> = cells.filter_map(|cell| cell.median).collect();
        let (least, most) = (medians.iter().min(), medians.iter().max());
        let (Some(least), Some(most)) = (least, most) else {
            return Self { bounds: Vec::new() };
        };
        let least = least.as_secs_f64().max(1e-6);
        let ratio = most.as_secs_f64().max(least) / least;
        let mut bounds: Vec<_> = (1u8..)
            .take(SHADES - 1)
            .map(|step| least * ratio.powf(f64::from(step) / SHADES as f64))
            .map(|bound| round(Duration::from_secs_f64(bound)))
            .collect();
        bounds.dedup();
        bounds.retain(|bound| bound < most);
        Self { bounds }
    }

    /// Returns the shade of a time.
    pub(super) fn shade(&self, time: Duration) -> usize {
        self.bounds.partition_point(|bound| *bound < time)
    }

    /// Returns each shade with the times it stands for.
    pub(super) fn legend(&self) -> Vec<(usize, String)> {
        let Some(last) = self.bounds.last() else {
            return vec![(0, "connected; the number is the median in ms".into())];
        };
        let mut legend: Vec<_> = self.bounds.iter().map(|bound| millis(*bound)).collect();
        let mut low = String::new();
        for bound in &mut legend {
            let high = bound.clone();
            *bound = if low.is_empty() {
                format!("up to {high} ms")
            } else {
                format!("to {high} ms")
            };
            low = high;
        }
        legend.push(format!("over {} ms", millis(*last)));
        legend.into_iter().enumerate().collect()
    }
}

/// Rounds to two digits, so that a reader can remember it.
fn round(time: Duration) -> Duration {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let unit = 10u64.pow(micros.max(1).ilog10().saturating_sub(1));
    Duration::from_micros(micros / unit * unit)
}

/// Returns the class of a cell in the style, and the few characters in it.
pub(super) fn look(cell: &Cell, bands: &Bands) -> (String, String) {
    let share = || format!("{}/{}", cell.successes, cell.runs);
    let shade = |time| format!("shade{}", bands.shade(time));
    match cell.standing() {
        Standing::AsExpected | Standing::Slow => {
            let all = cell.successes >= cell.runs;
            let class = match (cell.standing(), cell.median) {
                (Standing::Slow, _) => "seldom".into(),
                (_, Some(median)) => shade(median),
                (_, None) => "shade0".into(),
            };
            match cell.median {
                Some(median) if all => (class, brief(median)),
                Some(_) | None => (class, share()),
            }
        }
        Standing::TooSeldom => ("seldom".into(), share()),
        Standing::Failed => ("failed".into(), "\u{2715}".into()),
        Standing::Impossible => ("impossible".into(), "\u{2013}".into()),
        Standing::GaveUpLate => ("alarm".into(), "late".into()),
        Standing::Alarm => ("alarm".into(), "!!".into()),
        Standing::NotRun => ("unrun".into(), "\u{b7}".into()),
    }
}

/// Returns a time in at most four narrow characters, in milliseconds without a unit or in seconds
/// with one.
fn brief(time: Duration) -> String {
    match time.as_millis() {
        0 => "<1".into(),
        ms @ 1..1_000 => ms.to_string(),
        ms @ 1_000..10_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        ms => format!("{}s", (ms / 1_000).min(999)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Series;

    fn bands(medians: &[u64]) -> Bands {
        let cells = medians.iter().map(|median| Cell {
            dialler: 0,
            listener: 0,
            runs: 1,
            successes: 1,
            median: Some(Duration::from_millis(*median)),
            p95: None,
            worst: None,
            bound: None,
            gave_up: None,
            how: Vec::new(),
            expected: crate::report::Expected::Certain,
            reason: String::new(),
            failure: None,
            ladder: None,
        });
        let series = Series {
            cells: cells.collect(),
            ..Series::default()
        };
        Bands::of(&Report {
            series: vec![series],
            ..Report::default()
        })
    }

    #[test]
    fn shades_cover_all_times_and_slower_is_never_lighter() {
        for medians in [&[][..], &[0], &[80], &[80, 81], &[80, 5_000], &[0, 100_000]] {
            let bands = bands(medians);
            let shades = bands.legend().len();
            assert!((1..=SHADES).contains(&shades), "{medians:?}");
            let mut last = 0;
            for time in medians {
                let shade = bands.shade(Duration::from_millis(*time));
                assert!((last..shades).contains(&shade), "{medians:?}");
                last = shade;
            }
        }
        let wide = bands(&[80, 5_000]);
        assert_eq!(wide.shade(Duration::from_millis(80)), 0);
        assert_eq!(wide.shade(Duration::from_millis(5_000)), SHADES - 1);
    }

    #[test]
    fn times_are_short_enough_for_a_cell() {
        let of = |millis| brief(Duration::from_millis(millis));
        assert_eq!(of(0), "<1");
        assert_eq!(of(999), "999");
        assert_eq!(of(9_999), "9.9s");
        assert_eq!(of(12_500), "12s");
        assert!(of(u64::MAX).len() <= 4);
    }
}
