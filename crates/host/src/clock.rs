//! What time it is.

use std::time::Instant;

/// Returns the present moment, as the tokio runtime has it.
///
/// In a paused runtime that is virtual time. Outside a runtime it is the system's monotonic clock.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns how long ago a moment was, and zero if it is still to come.
#[must_use]
pub fn since(moment: Instant) -> std::time::Duration {
    now().saturating_duration_since(moment)
}
