//! The record of a run: each packet at both ends of each link.

mod capture_file;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{link::Crossing, model::Verdict, packet::Headers};

/// What happened to a packet at one end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LogEntry {
    /// When, counted from the start of the lab.
    pub at: Duration,
    /// The host or box at the beginning of the link, or `core`.
    pub from: Arc<str>,
    /// The host or box at its end, or `core`.
    pub to: Arc<str>,
    /// What happened.
    pub event: Event,
    /// The IP packet.
    pub packet: Arc<[u8]>,
}

/// What can happen to a packet at one end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// It entered the link.
    Entered {
        /// What the link makes of it.
        crossing: Crossing,
        /// Why it was sent, where it is no consequence of another packet's arrival.
        why: Option<Remark>,
    },
    /// It came to the end of the link.
    Arrived {
        /// What was done with it there, and why.
        verdict: Remark,
    },
    /// It waited, or waited no longer, for another one.
    AtGate {
        /// What the gate did, and its description.
        text: String,
        /// Whether that was before it entered the link, or at the link's end.
        sent: bool,
    },
}

/// What was done with a packet, and why. It becomes text only where somebody reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Remark {
    /// In words.
    Text(Cow<'static, str>),
    /// What a model of a NAT did.
    Verdict(Verdict),
}

impl From<&'static str> for Remark {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Remark {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Verdict> for Remark {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

/// What is said of a packet that came to its host, or to a box of the kernel's.
pub(crate) const DELIVERED: &str = "delivered";

/// What is said of a packet that the core sends on.
pub(crate) const ROUTED: &str = "routed";

impl Event {
    /// Returns what a capture file says about the packet, if it deserves a comment.
    pub(crate) fn comment(&self) -> Option<String> {
        match self {
            Self::Entered { crossing, why } => {
                let fate = match crossing {
                    Crossing::Lost(loss) => Some(loss.to_string()),
                    Crossing::Exits { duplicate, .. } => duplicate.map(|_| "duplicated".into()),
                };
                let words: Vec<_> = why.iter().map(ToString::to_string).chain(fate).collect();
                (!words.is_empty()).then(|| words.join(", "))
            }
            Self::Arrived { verdict } => match verdict {
                Remark::Text(text) if [DELIVERED, ROUTED].contains(&&**text) => None,
                Remark::Text(_) | Remark::Verdict(_) => Some(verdict.to_string()),
            },
            Self::AtGate { text, .. } => Some(text.clone()),
        }
    }
}

impl LogEntry {
    /// Returns the host or box where it happened, or `core`.
    pub fn place(&self) -> &str {
        match self.event {
            Event::Entered { .. } | Event::AtGate { sent: true, .. } => &self.from,
            Event::Arrived { .. } | Event::AtGate { sent: false, .. } => &self.to,
        }
    }
}

/// All that happened to the packets of a lab, in order.
///
/// The [`Display`](fmt::Display) form has one line for each entry. The same world driven in the
/// same way has the same log, byte for byte.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct EventLog {
    entries: Vec<LogEntry>,
}

impl EventLog {
    /// Returns the entries in the order in which they happened.
    pub fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    /// Returns the entries that `wanted` accepts, as a log of their own.
    #[must_use]
    pub fn select(&self, wanted: impl Fn(&LogEntry) -> bool) -> Self {
        let entries = self.entries.iter().filter(|entry| wanted(entry));
        Self {
            entries: entries.cloned().collect(),
        }
    }

    pub(crate) fn add(&mut self, entry: LogEntry) {
        self.entries.push(entry);
    }
}

/// A log that is written in one thread and read in others.
///
/// It keeps the first [`SharedLog::MAX_ENTRIES`] entries, which are the ones that tell how
/// connections came about.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedLog {
    log: Arc<Mutex<EventLog>>,
}

impl SharedLog {
    /// A port-guessing punch of a thousand SYNs a side makes some 20,000 entries.
    const MAX_ENTRIES: usize = 100_000;

    pub(crate) fn add(&self, entry: LogEntry) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.entries.len() < Self::MAX_ENTRIES {
            log.add(entry);
        }
    }

    /// Returns what is in it so far.
    pub(crate) fn read(&self) -> EventLog {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Display for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries
            .iter()
            .try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.at.as_secs(), self.at.subsec_nanos());
        write!(f, "{seconds}.{nanos:09} {} -> {} ", self.from, self.to)?;
        match Headers::read(&self.packet) {
            Some(headers) => write!(f, "{headers}")?,
            None => f.write_str("malformed")?,
        }
        write!(f, ": {}", self.event)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entered { crossing, why } => {
                f.write_str("sent")?;
                if let Some(why) = why {
                    write!(f, " ({why})")?;
                }
                match crossing {
                    Crossing::Lost(loss) => write!(f, ", {loss}"),
                    Crossing::Exits { duplicate, .. } => match duplicate {
                        Some(_) => f.write_str(", duplicated"),
                        None => Ok(()),
                    },
                }
            }
            Self::Arrived { verdict } => verdict.fmt(f),
            Self::AtGate { text, .. } => f.write_str(text),
        }
    }
}
