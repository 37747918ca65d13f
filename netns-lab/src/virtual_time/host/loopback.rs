//! Packets of a host to itself, which pass no link.

use std::{collections::VecDeque, time::Duration};

/// How long they take: less than any link, and not nothing, so that programs that answer
/// each other do not stop the clock.
const DELAY: Duration = Duration::from_micros(10);

/// The packets under way.
#[derive(Debug, Default)]
pub(super) struct Loopback(VecDeque<(Duration, Vec<u8>)>);

impl Loopback {
    pub(super) fn send(&mut self, now: Duration, packet: Vec<u8>) {
        self.0.push_back((now + DELAY, packet));
    }

    /// Returns when the next packet arrives.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.0.front().map(|(due, _)| *due)
    }

    /// Takes the next packet that has arrived.
    pub(super) fn receive(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.next_due().filter(|due| *due <= now)?;
        self.0.pop_front().map(|(_, packet)| packet)
    }
}
