//! How fast cells connect or give up, measured by what the path allows.

use super::{
    Cell, Report, Series, Standing,
    text::{clean, millis},
};

impl Cell {
    /// Returns how many times longer than the path takes its median is.
    pub fn ratio(&self) -> Option<f64> {
        let (median, bound) = (self.median?, self.bound?);
        (!bound.is_zero()).then(|| median.as_secs_f64() / bound.as_secs_f64())
    }

    /// Returns its times, and what the path takes, in words.
    pub(super) fn times_in_words(&self) -> Option<String> {
        let mut words = format!("median {} ms", millis(self.median?));
        if let (Some(ratio), Some(bound)) = (self.ratio(), self.bound) {
            words += &format!(", {ratio:.2} times the path's {} ms", millis(bound));
        }
        for (name, time) in [("95 %", self.p95), ("worst", self.worst)] {
            if let Some(time) = time {
                words += &format!(", {name} {} ms", millis(time));
            }
        }
        Some(words)
    }

    /// Returns how long it took to give up, in words.
    pub(super) fn giving_up_in_words(&self) -> Option<String> {
        let gave_up = self.gave_up?;
        Some(format!("given up after a median of {} ms", millis(gave_up)))
    }
}

impl Report {
    /// Returns how fast the cells of a series were, in lines: those that connected, and those that
    /// cannot.
    pub(super) fn pace(&self, series: &Series) -> Vec<String> {
        let mut lines = Vec::new();
        let mut connected: Vec<_> = series
            .cells
            .iter()
            .filter(|it| it.median.is_some())
            .collect();
        connected.sort_by_key(|cell| cell.median);
        if let (Some(middle), Some(slowest)) = (
            connected.get(connected.len().saturating_sub(1) / 2),
            connected.last(),
        ) {
            let ratio = |cell: &Cell| {
                let ratio = cell.ratio();
                ratio.map_or_else(String::new, |ratio| {
                    format!(" ({ratio:.2} times the path's)")
                })
            };
            lines.push(format!(
                "median of the pairs that connected: {} ms{}; slowest: {}, {} ms{}",
                millis(middle.median.unwrap_or_default()),
                ratio(middle),
                self.pair(slowest),
                millis(slowest.median.unwrap_or_default()),
                ratio(slowest),
            ));
        }
        let hopeless = |cell: &&Cell| {
            matches!(cell.standing(), Standing::Impossible | Standing::GaveUpLate)
                && cell.gave_up.is_some()
        };
        let mut hopeless: Vec<_> = series.cells.iter().filter(hopeless).collect();
        hopeless.sort_by_key(|cell| cell.gave_up);
        if let (Some(middle), Some(latest)) = (
            hopeless.get(hopeless.len().saturating_sub(1) / 2),
            hopeless.last(),
        ) {
            lines.push(format!(
                "pairs that cannot connect: {}, given up after a median of {} ms; latest: {}, {} ms",
                hopeless.len(),
                millis(middle.gave_up.unwrap_or_default()),
                self.pair(latest),
                millis(latest.gave_up.unwrap_or_default()),
            ));
        }
        lines
    }

    fn pair(&self, cell: &Cell) -> String {
        let names = [cell.dialler, cell.listener].map(|kind| clean(&self.kind(kind)));
        names.join(" dials ")
    }
}
