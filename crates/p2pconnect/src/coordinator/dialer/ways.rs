//! Which of the ways to a coordinator is tried first.

use std::{
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::sync::lock;

/// For how long TLS on TCP is tried first where it has worked in QUIC's place. Networks change, and
/// QUIC is a round trip faster.
const QUIC_AGAIN: Duration = Duration::from_secs(10 * 60);

/// A way to a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// QUIC over UDP.
    Quic,
    /// TLS on TCP.
    Tls,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "UDP",
            Self::Tls => "TCP",
        })
    }
}

/// What is known of the ways to a coordinator.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// Until when TLS on TCP is tried first.
    tls_until: Mutex<Option<Instant>>,
}

impl Ways {
    /// Returns the ways in the order in which they are tried.
    pub(super) fn order(&self, now: Instant) -> [Way; 2] {
        if lock(&self.tls_until).is_some_and(|until| now < until) {
            [Way::Tls, Way::Quic]
        } else {
            [Way::Quic, Way::Tls]
        }
    }

    /// Notes that a way has led to the coordinator.
    pub(super) fn worked(&self, way: Way, now: Instant) {
        let mut until = lock(&self.tls_until);
        *until = match way {
            Way::Quic => None,
            // QUIC is tried first at a time, however often TCP works before.
            Way::Tls => until.filter(|it| now < *it).or(Some(now + QUIC_AGAIN)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_worked_is_tried_first_and_quic_again_later() {
        let (ways, began) = (Ways::default(), Instant::now());
        assert_eq!(ways.order(began), [Way::Quic, Way::Tls]);
        ways.worked(Way::Tls, began);
        let later = began + QUIC_AGAIN / 2;
        assert_eq!(ways.order(later), [Way::Tls, Way::Quic]);
        ways.worked(Way::Tls, later);
        assert_eq!(ways.order(began + QUIC_AGAIN), [Way::Quic, Way::Tls]);
        ways.worked(Way::Tls, began + QUIC_AGAIN);
        ways.worked(Way::Quic, began + QUIC_AGAIN);
        assert_eq!(ways.order(began + QUIC_AGAIN), [Way::Quic, Way::Tls]);
    }
}
