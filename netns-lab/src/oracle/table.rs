//! The table of presets for the README.

use std::fmt::Write as _;

use super::{How, Outcome, Timing, percent, punchable};
use crate::preset::Preset;

/// Returns a Markdown table of all pairs of presets, a in rows and b in columns, with a legend.
///
/// It is half full: the other half has a and b exchanged.
pub fn table(presets: &[Preset]) -> String {
    let mut text = String::from("| a \\ b |");
    for column in 1..=presets.len() {
        // A `String` takes whatever is written.
        let _infallible = write!(text, " {column} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(presets.len()));
    text.push('\n');
    for (row, a) in presets.iter().enumerate() {
        let _infallible = write!(text, "| {} {} |", row + 1, a.name);
        for (column, b) in presets.iter().enumerate() {
            let cell = if column < row {
                String::new()
            } else {
                cell(&punchable(&a.specs(), &b.specs()).outcome)
            };
            let _infallible = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text.push_str(LEGEND);
    text
}

const LEGEND: &str = "
acc: one side's listener accepts; open: simultaneous open of the endpoints that a server has
seen; pred: the same with a predicted port; fill: with all ports of a small range at once; n%: by
luck, with 640 SYNs from each side; ·: no.
With `>`, a must dial first, with `<`, b; with `x`, the SYNs must cross.
";

fn cell(outcome: &Outcome) -> String {
    let (word, timing) = match outcome {
        Outcome::Certain { how, timing } => {
            let word = match how {
                How::Accept => "acc",
                How::SimultaneousOpen => "open",
                How::Prediction => "pred",
                How::Filling => "fill",
            };
            (word.to_owned(), *timing)
        }
        Outcome::Chance {
            probability,
            timing,
            ..
        } => (percent(*probability), *timing),
        Outcome::Impossible { .. } => ("·".to_owned(), Timing::Any),
    };
    let order = match timing {
        Timing::Any => "",
        Timing::CrossingSyns => " x",
        Timing::AFirst => " >",
        Timing::BFirst => " <",
    };
    format!("{word}{order}")
}
