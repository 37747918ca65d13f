//! Ladder diagrams: what the packets of a run did, in time.

mod from_log;
mod text;

use std::{borrow::Cow, time::Duration};

pub use from_log::LadderPlace;

/// Nobody reads further.
const MAX_STEPS: usize = 400;

/// A wider ladder would not fit on any screen.
const MAX_COLUMNS: usize = 16;

/// What the packets of a run did, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ladder {
    /// What is shown.
    pub title: String,
    /// Hosts, NATs and the core, from left to right.
    pub columns: Vec<Column>,
    /// What happened; steps at the same time are shown in this order.
    pub steps: Vec<Step>,
}

/// A place that packets come through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ColumnKind,
}

/// What a column of a ladder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// An end host.
    Host,
    /// A NAT or firewall.
    Nat,
    /// The network between them.
    Core,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When, counted from the start of the run.
    pub at: Duration,
    /// What.
    pub kind: StepKind,
}

/// What happened in a step. Columns that do not exist are not drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// A packet went from one column towards another.
    Arrow {
        /// Index of the column it left.
        from: usize,
        /// Index of the column it went to.
        to: usize,
        /// When it came there, if it did.
        arrives: Option<Duration>,
        /// What it was, such as "SYN :40000 > 203.0.113.2:51234".
        label: String,
        /// Whether it came there.
        fate: Fate,
    },
    /// A place did something with a packet.
    Note {
        /// Index of the column.
        column: usize,
        /// What it did and why.
        text: String,
        /// Whether that is good news.
        tone: Tone,
    },
}

/// What became of a packet on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It was carried to the end.
    Carried,
    /// It was lost on the way, and why.
    Lost(String),
}

/// Whether what happened is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tone {
    /// Neither.
    Neutral,
    /// The connection comes closer.
    Good,
    /// A packet got no further.
    Bad,
}

impl Ladder {
    /// Returns the ladder with as many steps and columns as anybody can read, and in the order of
    /// time.
    pub(super) fn bounded(&self) -> Cow<'_, Self> {
        let ordered = self.steps.is_sorted_by_key(|step| step.at);
        let fits = self.steps.len() <= MAX_STEPS && self.columns.len() <= MAX_COLUMNS;
        if ordered && fits {
            return Cow::Borrowed(self);
        }
        let mut ladder = self.clone();
        ladder.columns.truncate(MAX_COLUMNS);
        ladder.steps.sort_by_key(|step| step.at);
        if ladder.steps.len() > MAX_STEPS {
            let left_out = ladder.steps.len() - MAX_STEPS;
            ladder.steps.truncate(MAX_STEPS);
            let at = ladder.steps.last().map_or(Duration::ZERO, |step| step.at);
            let text = format!("{left_out} more steps are not shown");
            let (column, tone) = (0, Tone::Neutral);
            let kind = StepKind::Note { column, text, tone };
            ladder.steps.push(Step { at, kind });
        }
        Cow::Owned(ladder)
    }
}
