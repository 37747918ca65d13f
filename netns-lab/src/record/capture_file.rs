//! The record of a run as a capture file.

use std::{collections::BTreeMap, io, path::Path};

use super::{Event, EventLog};
use crate::capture::PcapngWriter;

/// Longer than any packet.
const WHOLE_PACKETS: usize = 65_535;

impl EventLog {
    /// Writes the packets to a pcapng file that has an interface for each end of each link that was
    /// used, and what was done with a packet as its comment.
    ///
    /// Times count from the start of the lab, as if that had been in 1970; so the same log makes
    /// the same file.
    ///
    /// # Errors
    ///
    /// What the operating system says if the file cannot be written.
    pub fn write_pcapng(&self, file: &Path) -> io::Result<()> {
        self.write_part(file, WHOLE_PACKETS, &[])
    }

    /// Does the same with so many bytes of each packet, and only with what was seen at these places
    /// unless there are none.
    ///
    /// # Errors
    ///
    /// What the operating system says if the file cannot be written.
    pub fn write_part(&self, file: &Path, snap_length: usize, at: &[String]) -> io::Result<()> {
        let mut interfaces = BTreeMap::new();
        for entry in &self.entries {
            // Both ends, even if nothing arrives.
            interfaces.insert((&*entry.from, &*entry.to), 0);
            interfaces.insert((&*entry.to, &*entry.from), 0);
        }
        for (number, index) in (0..).zip(interfaces.values_mut()) {
            *index = number;
        }
        let names = interfaces
            .keys()
            .map(|(place, other)| format!("{place} (to {other})"));
        let mut writer = PcapngWriter::create(file, snap_length, names)?;
        if !at.is_empty() {
            let places = interfaces.keys().map(|(place, _)| place);
            writer = writer.only(places.map(|place| at.iter().any(|it| it == place)));
        }
        for entry in &self.entries {
            let (end, leaves) = match entry.event {
                Event::Entered { .. } => ((&*entry.from, &*entry.to), true),
                Event::Arrived { .. } => ((&*entry.to, &*entry.from), false),
                // It is written when it goes on.
                Event::AtGate { .. } => continue,
            };
            let interface = interfaces.get(&end).copied().unwrap_or_default();
            let comment = entry.event.comment();
            let comment = comment.as_deref();
            writer.packet(interface, entry.at, &entry.packet, leaves, comment)?;
        }
        writer.flush()
    }
}
