//! What clients are told of a coordinator that is going to end.

use std::time::{Duration, Instant};

use p2pconnect_proto::{
    CoordinatorAddr,
    close::{self, Close},
    message::{MAX_PLACES, Move, Notice},
};

/// How soon the first client comes back to a coordinator that has ended: most are started anew
/// within half a second.
const BACK_AFTER: Duration = Duration::from_millis(500);

/// What is said to a peer that has registered over another connection.
pub(super) const REPLACED: &str = "the same peer id has registered elsewhere";

/// What the connections of a coordinator that ends are closed with.
pub(super) const GOODBYE: &str = "shutting down";

/// Returns the end of the connection of a client that is to come back so much later than the first.
pub(super) fn back_after(later: Duration) -> Close {
    Close {
        code: close::GOING_AWAY,
        retry_after: Some(BACK_AFTER + later),
    }
}

/// What clients are told of a coordinator that is going to end.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) to: Vec<CoordinatorAddr>,
    /// Until when those who have moved stay.
    pub(super) stay_until: Instant,
}

impl Farewell {
    /// Tells whether there is another place for clients.
    pub(super) fn has_place(&self) -> bool {
        !self.to.is_empty()
    }

    /// Returns what the client is told whose turn is behind so many others: each prefers another
    /// place.
    pub(super) fn notice(&self, before: usize, now: Instant) -> Notice {
        let first = before % self.to.len().max(1);
        let places = self.to[first..].iter().chain(&self.to[..first]);
        Notice::Move(Move::new(
            self.stay_until.saturating_duration_since(now),
            places.take(MAX_PLACES),
        ))
    }
}

#[cfg(test)]
mod tests {
    use p2pconnect_host::clock;
    use p2pconnect_proto::PeerId;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_client_prefers_another_place() {
        let place = |port| CoordinatorAddr {
            id: PeerId::from_public_key([7; 32]),
            host: "192.0.2.1".to_owned(),
            port,
            web: None,
        };
        let now = clock::now();
        let farewell = Farewell {
            to: [1, 2, 3].map(place).to_vec(),
            stay_until: now + SECOND,
        };
        let told = |before| match farewell.notice(before, now) {
            Notice::Move(told) => told,
            other => panic!("{other:?}"),
        };
        for (before, ports) in [(0, [1, 2, 3]), (1, [2, 3, 1]), (5, [3, 1, 2])] {
            let places = told(before).places();
            assert_eq!(places, ports.map(place), "{before}");
        }
        assert_eq!(told(0).stay(), SECOND);
    }
}
