//! The summary of a report for a terminal.

use super::{
    Cell, Report, Series, Standing,
    text::{clean, push},
};

const LEGEND: &str = "number: median ms; n/m: connected n times of m; FAIL: never connected, but \
                      should;\n-: cannot connect, as the oracle says; !!: connected, but the \
                      oracle says it cannot; late: cannot connect, but was not given up in \
                      time; .: not run\n";

impl Report {
    /// Returns the report for a terminal: a matrix for each series, the pairs that failed, and
    /// those about which the oracle is wrong.
    ///
    /// A matrix of 20 kinds is some 130 characters wide. No line is broken, so that the list can be
    /// searched.
    pub fn summary(&self) -> String {
        let mut text = format!("{}\n", clean(&self.title));
        if !self.path.is_empty() {
            text.push_str(&clean(&self.path));
            text.push_str("; ");
        }
        push(&mut text, format_args!("seed {}\n", self.seed));
        for series in &self.series {
            self.matrix(&mut text, series);
            for line in self.pace(series) {
                push(&mut text, format_args!("{line}\n"));
            }
        }
        text.push('\n');
        text.push_str(LEGEND);
        list(&mut text, self, "Work list", &self.work_list());
        list(
            &mut text,
            self,
            "ALARM, the oracle is wrong, or a pair was given up late",
            &self.alarms(),
        );
        for note in &self.notes {
            push(&mut text, format_args!("Note: {}\n", clean(note)));
        }
        text
    }

    fn matrix(&self, text: &mut String, series: &Series) {
        push(
            text,
            format_args!("\n{}: {}\n", series.full_name(), series.headline()),
        );
        let names: Vec<_> = self.kinds.iter().map(|kind| clean(&kind.name)).collect();
        let name_width = names.iter().map(|name| name.chars().count()).max();
        let key_width = key(names.len().saturating_sub(1)).len();
        let row = |dialler| {
            (0..names.len())
                .map(move |listener| sign(series.cell(dialler, listener)))
                .collect::<Vec<_>>()
        };
        let rows: Vec<_> = (0..names.len()).map(row).collect();
        let cells = rows.iter().flatten().map(|sign| sign.chars().count());
        let width = cells.max().unwrap_or(0).max(key_width) + 1;
        let indent = name_width.unwrap_or(0).max("dials".len());
        push(text, format_args!("{:<indent$} {:key_width$}", "dials", ""));
        for index in 0..names.len() {
            push(text, format_args!("{:>width$}", key(index)));
        }
        text.push_str("  listens\n");
        for (index, (name, row)) in names.iter().zip(rows).enumerate() {
            push(
                text,
                format_args!("{name:<indent$} {:<key_width$}", key(index)),
            );
            for sign in row {
                push(text, format_args!("{sign:>width$}"));
            }
            text.push('\n');
        }
    }
}

impl Series {
    /// Returns the name of the series and of its ground.
    fn full_name(&self) -> String {
        match self.ground.as_str() {
            "" => clean(&self.name),
            ground if self.name.contains(ground) => clean(&self.name),
            ground => clean(&format!("{} ({ground})", self.name)),
        }
    }

    /// Returns how the series went, in a line.
    pub(super) fn headline(&self) -> String {
        let tally = self.tally();
        let alarms = match tally.alarms {
            1 => "1 alarm".to_owned(),
            alarms => format!("{alarms} alarms"),
        };
        format!(
            "{} of {} allowed pairs connected, {} on the work list, {alarms}; took {:.1} s",
            tally.connected,
            tally.allowed,
            tally.work,
            self.took.as_secs_f64(),
        )
    }
}

/// Returns a column's name of one or two letters.
fn key(index: usize) -> String {
    let letter = |index: usize| char::from(b'a' + u8::try_from(index % 26).unwrap_or(0));
    match index / 26 {
        0 => letter(index).to_string(),
        more => format!("{}{}", letter(more - 1), letter(index)),
    }
}

/// Returns a cell in a few characters.
fn sign(cell: Option<&Cell>) -> String {
    let Some(cell) = cell else {
        return ".".into();
    };
    match (cell.standing(), cell.median) {
        (Standing::NotRun, _) => ".".into(),
        (Standing::Impossible, _) => "-".into(),
        (Standing::Alarm, _) => "!!".into(),
        (Standing::GaveUpLate, _) => "late".into(),
        (Standing::Failed, _) => "FAIL".into(),
        (Standing::AsExpected | Standing::Slow, Some(median)) if cell.successes >= cell.runs => {
            median.as_millis().to_string()
        }
        (Standing::AsExpected | Standing::Slow | Standing::TooSeldom, _) => {
            format!("{}/{}", cell.successes, cell.runs)
        }
    }
}

fn list(text: &mut String, report: &Report, title: &str, cells: &[(&Series, &Cell)]) {
    push(text, format_args!("\n{title}: {}\n", cells.len()));
    for (series, cell) in cells {
        let (dialler, listener) = (report.kind(cell.dialler), report.kind(cell.listener));
        push(
            text,
            format_args!(
                "  {} dials {}: {}, connected {} of {} ({})\n    oracle: {}: {}\n",
                clean(&dialler),
                clean(&listener),
                cell.standing().name(),
                cell.successes,
                cell.runs,
                clean(&series.name),
                cell.expected,
                clean(&cell.reason),
            ),
        );
        let times = [cell.times_in_words(), cell.giving_up_in_words()];
        for words in times.into_iter().flatten() {
            push(text, format_args!("    times: {words}\n"));
        }
        if let Some(failure) = &cell.failure {
            push(text, format_args!("    failure: {}\n", clean(failure)));
        }
    }
}
