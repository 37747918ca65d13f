//! What happens to packets, line by line as it happens.

use std::collections::BTreeSet;

use netns_lab::{Event, LogEntry};

/// The network between the outermost boxes.
const CORE: &str = "core";

/// Turns what boxes and hosts do with packets into lines.
pub(crate) struct Watch {
    boxes: BTreeSet<String>,
    width: usize,
}

impl Watch {
    /// Watches these boxes.
    pub(crate) fn new(boxes: impl Iterator<Item = String>) -> Self {
        let boxes: BTreeSet<_> = boxes.collect();
        let width = boxes.iter().map(String::len).max().unwrap_or(0);
        Self { boxes, width }
    }

    /// Returns a line for what one of the boxes did.
    pub(crate) fn line(&self, entry: &LogEntry) -> Option<String> {
        let place = entry.place();
        let is_told = match entry.event {
            Event::Arrived { .. } => self.boxes.contains(place),
            Event::AtGate { .. } => true,
            _ => false,
        };
        if !is_told {
            return None;
        }
        let what = what(entry)?;
        let (packet, verdict) = what.split_once(": ")?;
        let what = match packet.split(' ').collect::<Vec<_>>().as_slice() {
            // What the coordinator and its clients say to each other.
            [_, _, _, "udp", ..] => return None,
            [source, _, destination, flags, ..] if flags.chars().all(is_flag) => {
                let name = name(flags, &entry.from, verdict)?;
                format!("{name} {source} > {destination}")
            }
            _ => packet.to_owned(),
        };
        let ms = entry.at.as_secs_f64() * 1e3;
        let width = self.width;
        Some(format!("{ms:7.1} ms  {place:width$}  {what}: {verdict}"))
    }
}

/// Returns what an entry says after the time and the link.
pub(crate) fn what(entry: &LogEntry) -> Option<String> {
    let link = format!(" {} -> {} ", entry.from, entry.to);
    let text = entry.to_string();
    Some(text.split_once(&link)?.1.to_owned())
}

const fn is_flag(letter: char) -> bool {
    letter.is_ascii_uppercase() || letter == '.'
}

/// Names a segment that tells something about how a connection comes about.
fn name(flags: &str, from: &str, verdict: &str) -> Option<&'static str> {
    match flags {
        "S" => Some("SYN"),
        "S." => Some("SYN-ACK"),
        // What hosts reset is over for them.
        "R" | "R." if from == CORE => Some("RST"),
        "R" | "R." => None,
        _ if verdict.starts_with("DROP") => Some("segment"),
        _ => None,
    }
}
