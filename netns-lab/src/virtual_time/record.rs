//! The record of a run: each packet at each place.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::packet::{Content, IpHeader};

/// What happened to a packet at one place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LogEntry {
    /// When, counted from the start of the world.
    pub at: Duration,
    /// The host, middlebox or link, by name; a link has the name of its lower
    /// end with `up` or `down` behind it.
    pub place: Arc<str>,
    /// What the place did with the packet, and why.
    pub verdict: Cow<'static, str>,
    /// The IP packet as it came to the place, or as it was sent.
    pub packet: Arc<[u8]>,
}

/// All that happened to the packets of a world, in order.
///
/// The [`Display`](fmt::Display) form has one line for each entry. The same
/// world driven in the same way has the same log, byte for byte.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct EventLog {
    entries: Vec<LogEntry>,
}

impl EventLog {
    /// Returns the entries in the order in which they happened.
    pub fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    pub(super) fn add(&mut self, entry: LogEntry) {
        self.entries.push(entry);
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
        write!(f, "{seconds}.{nanos:09} {} ", self.place)?;
        match Content::read(&self.packet) {
            Some(Content::Tcp(segment)) => write!(f, "{segment}")?,
            Some(Content::Error(error)) => write!(f, "{error}")?,
            Some(Content::Other) | None => match IpHeader::read(&self.packet) {
                Some(header) => write!(f, "{} > {}", header.source, header.destination)?,
                None => f.write_str("malformed")?,
            },
        }
        write!(f, ": {}", self.verdict)
    }
}
