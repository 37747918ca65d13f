//! How long to wait before something is tried again that may become right by itself.

use std::time::Duration;

/// The first pause: what was only late is there soon.
const FIRST: Duration = Duration::from_millis(500);

/// The longest pause. An attempt costs a few packets, and a machine that boots should not wait for
/// long.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that become longer.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pauses {
    /// Returns the next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}
