//! Which of the ways to a coordinator is tried first.

use std::{
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::sync::lock;

/// For how long a way is tried first that has worked in QUIC's place. Networks change, and QUIC is
/// a round trip faster.
const QUIC_AGAIN: Duration = Duration::from_secs(10 * 60);

/// A way to a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// QUIC over UDP.
    Quic,
    /// TLS on TCP.
    Tls,
    /// A WebSocket.
    WebSocket,
    /// By way of a proxy.
    Proxy,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "UDP",
            Self::Tls => "TCP",
            Self::WebSocket => "WebSocket",
            Self::Proxy => "proxy",
        })
    }
}

/// What is known of the ways to a coordinator.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// Which way is tried first in QUIC's place, and until when.
    first: Mutex<Option<(Way, Instant)>>,
}

impl Ways {
    /// Returns the direct ways in the order in which they are tried.
    pub(super) fn order(&self, now: Instant) -> [Way; 3] {
        let first = self.first(now);
        let mut order = [Way::Quic, Way::Tls, Way::WebSocket];
        order.sort_by_key(|way| *way != first);
        order
    }

    /// Returns the way that is tried first.
    pub(super) fn first(&self, now: Instant) -> Way {
        let first = lock(&self.first).filter(|(_, until)| now < *until);
        first.map_or(Way::Quic, |(way, _)| way)
    }

    /// Notes that a way has led to the coordinator.
    pub(super) fn worked(&self, way: Way, now: Instant) {
        let mut first = lock(&self.first);
        *first = match way {
            Way::Quic => None,
            // QUIC is tried first at a time, however often another way works before.
            Way::Tls | Way::WebSocket | Way::Proxy => {
                let until = first.map(|(_, until)| until).filter(|it| now < *it);
                Some((way, until.unwrap_or(now + QUIC_AGAIN)))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_worked_is_tried_first_and_quic_again_later() {
        let (ways, began) = (Ways::default(), Instant::now());
        let usual = [Way::Quic, Way::Tls, Way::WebSocket];
        assert_eq!(ways.order(began), usual);
        ways.worked(Way::Tls, began);
        let later = began + QUIC_AGAIN / 2;
        assert_eq!(ways.order(later), [Way::Tls, Way::Quic, Way::WebSocket]);
        ways.worked(Way::Tls, later);
        assert_eq!(ways.order(began + QUIC_AGAIN), usual);
        ways.worked(Way::Tls, began + QUIC_AGAIN);
        ways.worked(Way::Quic, began + QUIC_AGAIN);
        assert_eq!(ways.order(began + QUIC_AGAIN), usual);
        ways.worked(Way::WebSocket, began);
        assert_eq!(ways.order(later), [Way::WebSocket, Way::Quic, Way::Tls]);
        ways.worked(Way::Proxy, began);
        assert_eq!((ways.first(later), ways.order(later)), (Way::Proxy, usual));
        ways.worked(Way::Proxy, later);
        assert_eq!(ways.first(began + QUIC_AGAIN), Way::Quic);
    }
}
