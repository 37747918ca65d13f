//! Answers one dial of each peer at a time where both NATs give each destination another port.
//!
//! Each side has to know from which ports the other side connects, and each connection of a dial
//! beside it takes one of those. So further diallers with the same key are told to begin anew.
//! Those of a dozen that begin at the same moment are held up by that before any of them knows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use p2pconnect_proto::PeerId;

use crate::sync::lock;

/// For how long a dial has a peer's ports for itself at most: as a rule it is over in a second, and
/// its dialler may be gone without a word.
const LIMIT: Duration = Duration::from_secs(3);

/// The peers whose dials are answered one at a time, and since when one of them is.
#[derive(Debug, Default)]
pub(crate) struct OneEach(Mutex<BTreeMap<PeerId, Instant>>);

/// As long as this exists, and for some seconds at most, no other dial of the same peer is answered
/// that would be in the way.
#[derive(Debug)]
pub(crate) struct One {
    all: Arc<OneEach>,
    peer: PeerId,
    since: Instant,
}

impl OneEach {
    /// Begins to answer a dial, unless another one of the same peer is being answered.
    pub(crate) fn take(self: &Arc<Self>, peer: PeerId, now: Instant) -> Option<One> {
        let is_free = self.with(|all| {
            let since = all.get(&peer);
            let is_free = since.is_none_or(|since| now.duration_since(*since) >= LIMIT);
            if is_free {
                all.insert(peer, now);
            }
            is_free
        });
        is_free.then(|| One {
            all: Arc::clone(self),
            peer,
            since: now,
        })
    }

    fn with<T>(&self, use_all: impl FnOnce(&mut BTreeMap<PeerId, Instant>) -> T) -> T {
        use_all(&mut lock(&self.0))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.all.with(|all| {
            // Another one may have begun since.
            if all.get(&self.peer) == Some(&self.since) {
                all.remove(&self.peer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dial_of_each_peer_is_answered_at_a_time() {
        let all = Arc::new(OneEach::default());
        let [a, b] = [1, 2].map(|byte| PeerId::from_public_key([byte; 32]));
        let begin = Instant::now();
        let one = all.take(a, begin);
        assert!(one.is_some());
        assert!(all.take(a, begin).is_none());
        assert!(all.take(b, begin).is_some());
        drop(one);
        assert!(all.take(a, begin).is_some());
    }

    #[test]
    fn a_dial_that_does_not_end_is_waited_for_no_longer_than_that() {
        let all = Arc::new(OneEach::default());
        let peer = PeerId::from_public_key([1; 32]);
        let begin = Instant::now();
        let stuck = all.take(peer, begin);
        let next = all.take(peer, begin + LIMIT);
        assert!(next.is_some());
        drop(stuck);
        assert!(all.take(peer, begin + LIMIT).is_none());
    }
}
