//! The report of a matrix: a page, ladder diagrams, and the same for a terminal.
//!
//! A [`Report`] is plain data that whoever ran the matrix fills in. From it come a self-contained
//! page ([`Report::html`]) and a summary for a terminal ([`Report::summary`]). A [`Ladder`] is what
//! the packets of one run did, as a picture in the page or as text ([`Ladder::to_text`]).
//!
//! Nothing here reads a clock or a file. Every text may contain anything: it is escaped where it is
//! written.

#[cfg(feature = "html")]
mod html;
mod ladder;
mod pace;
mod standing;
mod summary;
mod text;

use std::{fmt, time::Duration};

pub use ladder::{Column, ColumnKind, Fate, Ladder, LadderPlace, Step, StepKind, Tone};
pub use standing::Standing;

/// The outcome of a matrix, run once or in several series.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// What was run.
    pub title: String,
    /// The path between the hosts, such as its delays, in a sentence.
    pub path: String,
    /// The seed that the runs started from.
    pub seed: u64,
    /// The rows and columns.
    pub kinds: Vec<Kind>,
    /// Each run of the whole matrix; the first is the one that others are compared with.
    pub series: Vec<Series>,
    /// The runs that are shown packet by packet.
    pub ladders: Vec<Ladder>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds the series and ladders of another report about the same kinds, and names both in the
    /// title: of the parts between commas, those that differ are joined by "and".
    pub fn join(&mut self, other: Self) {
        let (ours, theirs) = (self.title.split(", "), other.title.split(", "));
        self.title = if ours.clone().count() == theirs.clone().count() {
            let part = |(ours, theirs): (&str, &str)| match ours == theirs {
                true => ours.to_owned(),
                false => format!("{ours} and {theirs}"),
            };
            let parts: Vec<_> = ours.zip(theirs).map(part).collect();
            parts.join(", ")
        } else {
            format!("{}; {}", self.title, other.title)
        };
        let before = self.ladders.len();
        self.series
            .extend(other.series.into_iter().map(|mut series| {
                for ladder in series
                    .cells
                    .iter_mut()
                    .filter_map(|cell| cell.ladder.as_mut())
                {
                    *ladder += before;
                }
                series
            }));
        self.ladders.extend(other.ladders);
        self.notes.extend(other.notes);
    }
}

/// A row and column of the matrix: a preset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kind {
    /// The short name.
    pub name: String,
    /// What it is, in a few words.
    pub title: String,
}

/// One run of the whole matrix.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// What ran, and where, such as "p2pconnect, virtual time".
    pub name: String,
    /// The ground it ran on.
    pub ground: String,
    /// The cells in any order; what is missing was not run.
    pub cells: Vec<Cell>,
    /// How long the whole run took.
    pub took: Duration,
}

/// A pair of kinds: one dials, the other listens.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Index of the kind that dials.
    pub dialler: usize,
    /// Index of the kind that listens.
    pub listener: usize,
    /// How often it was tried.
    pub runs: u32,
    /// How often it connected.
    pub successes: u32,
    /// The median time to connect, of those that did.
    pub median: Option<Duration>,
    /// The time in which 95 of 100 connected, of those that did.
    pub p95: Option<Duration>,
    /// The longest time to connect, of those that did.
    pub worst: Option<Duration>,
    /// What the path takes at least, if that is known.
    pub bound: Option<Duration>,
    /// The median time until both sides had given up, of those that failed.
    pub gave_up: Option<Duration>,
    /// In what way it connected, and how often.
    pub how: Vec<(String, u32)>,
    /// What the oracle says.
    pub expected: Expected,
    /// Why the oracle says so.
    pub reason: String,
    /// What a run that failed said.
    pub failure: Option<String>,
    /// Index of the ladder that shows a run.
    pub ladder: Option<usize>,
}

/// What the oracle says about a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expected {
    /// It connects.
    Certain,
    /// It connects with this probability, between 0 and 1.
    Chance(f64),
    /// It cannot connect.
    Impossible,
}

impl Expected {
    /// Returns whether the oracle allows a connection at all.
    pub fn allows(self) -> bool {
        match self {
            Self::Certain => true,
            Self::Chance(chance) => chance > 0.0,
            Self::Impossible => false,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certain => f.write_str("connects"),
            Self::Chance(chance) => write!(f, "connects with chance {:.1} %", chance * 100.0),
            Self::Impossible => f.write_str("cannot connect"),
        }
    }
}

impl Report {
    /// Returns the name of a kind, or its number if there is none.
    fn kind(&self, index: usize) -> String {
        self.kinds
            .get(index)
            .map_or_else(|| format!("kind {index}"), |kind| kind.name.clone())
    }
}
