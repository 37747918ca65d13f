//! The peers that this node holds, and what becomes of one that another node holds as well.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use p2pconnect_proto::{PeerId, nodes::NodeId};

use super::Listening;
use crate::registry::ConnectionId;

/// The peers that this node holds. Pure.
#[derive(Debug, Default)]
pub(crate) struct Held {
    peers: BTreeMap<PeerId, Holding>,
}

#[derive(Debug)]
struct Holding {
    connection: ConnectionId,
    since: Instant,
    /// Listens at the peer's subject; not there yet while that begins.
    listening: Option<Listening>,
}

/// A registration at another node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OtherRegistration {
    pub(crate) peer: PeerId,
    pub(crate) node: NodeId,
    /// How long ago it was, as it was said.
    pub(crate) age: Duration,
    /// How much two registrations have to be apart for their order to be known: what a message
    /// takes to and from that node.
    pub(crate) apart: Duration,
}

/// What there is to do when another node says that it holds a peer, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rival {
    /// Nothing: this node does not hold the peer.
    Unknown,
    /// The registration there is the newer one; the one here, over this connection, ends.
    IsNewer(ConnectionId),
    /// The registration here is the newer one, and so old.
    IsOlder(Duration),
}

/// What a registration changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nobody listens for the peer yet.
    New,
    /// The peer has come over another connection.
    Moved,
    /// Others know it already.
    Nothing,
}

impl Held {
    /// Notes that a peer is registered over this connection.
    pub(crate) fn hold(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) -> Change {
        match self.peers.get_mut(&peer) {
            Some(holding) if holding.connection == connection => Change::Nothing,
            Some(holding) => {
                (holding.connection, holding.since) = (connection, now);
                Change::Moved
            }
            None => {
                let holding = Holding {
                    connection,
                    since: now,
                    listening: None,
                };
                self.peers.insert(peer, holding);
                Change::New
            }
        }
    }

    /// Keeps what listens for a peer, or returns it if the peer is not held any more, or somebody
    /// listens for it already.
    pub(crate) fn keep(&mut self, peer: PeerId, listening: Listening) -> Option<Listening> {
        match self.peers.get_mut(&peer) {
            Some(holding) if holding.listening.is_none() => {
                holding.listening = Some(listening);
                None
            }
            Some(_) | None => Some(listening),
        }
    }

    /// Forgets a peer whose registration over this connection has ended. Returns what listened for
    /// it.
    pub(crate) fn release(&mut self, peer: PeerId, connection: ConnectionId) -> Option<Listening> {
        let holding = self.peers.get(&peer)?;
        if holding.connection != connection {
            return None;
        }
        self.peers.remove(&peer)?.listening
    }

    /// Judges whether the registration of a peer at another node is newer than the one at this
    /// node, `own`.
    ///
    /// Two that are too close to each other for their order to be known are told apart by the
    /// nodes' names, so that both nodes come to the same end.
    pub(crate) fn judge(&self, own: NodeId, other: OtherRegistration, now: Instant) -> Rival {
        let Some(holding) = self.peers.get(&other.peer) else {
            return Rival::Unknown;
        };
        let age = now.saturating_duration_since(holding.since);
        let is_newer = match age.abs_diff(other.age) < other.apart {
            true => other.node > own,
            false => other.age < age,
        };
        match is_newer {
            true => Rival::IsNewer(holding.connection),
            false => Rival::IsOlder(age),
        }
    }

    /// Returns how long each peer has been registered here.
    pub(crate) fn ages(&self, now: Instant) -> Vec<(PeerId, Duration)> {
        let ages = self.peers.iter();
        ages.map(|(peer, it)| (*peer, now.saturating_duration_since(it.since)))
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ConnectionId = ConnectionId(1);
    const SECOND: ConnectionId = ConnectionId(2);
    const APART: Duration = Duration::from_millis(100);

    fn peer() -> PeerId {
        PeerId::from_public_key([1; 32])
    }

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    fn judge(held: &Held, other: u8, age: Duration, now: Instant) -> Rival {
        let other = OtherRegistration {
            peer: peer(),
            node: node(other),
            age,
            apart: APART,
        };
        held.judge(node(5), other, now)
    }

    #[test]
    fn the_newest_registration_counts_whichever_node_it_is_at() {
        let (mut held, then) = (Held::default(), Instant::now());
        assert_eq!(judge(&held, 1, Duration::ZERO, then), Rival::Unknown);
        held.hold(peer(), FIRST, then);
        let age = 10 * APART;
        let now = then + age;
        for other in [1, 9] {
            let newer = judge(&held, other, Duration::ZERO, now);
            assert_eq!(newer, Rival::IsNewer(FIRST));
            assert_eq!(judge(&held, other, 2 * age, now), Rival::IsOlder(age));
        }
    }

    #[test]
    fn of_two_at_the_same_moment_one_stays_and_both_nodes_know_which() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.hold(peer(), FIRST, now);
        for age in [Duration::ZERO, APART / 2] {
            assert_eq!(judge(&held, 9, age, now), Rival::IsNewer(FIRST));
            let older = Rival::IsOlder(Duration::ZERO);
            assert_eq!(judge(&held, 1, age, now), older);
        }
    }

    #[test]
    fn a_peer_is_listened_for_once_for_as_long_as_it_is_held() {
        let (mut held, now) = (Held::default(), Instant::now());
        let listening = || Listening::until_dropped(|| {});
        assert!(held.keep(peer(), listening()).is_some(), "gone meanwhile");
        assert_eq!(held.hold(peer(), FIRST, now), Change::New);
        assert_eq!(held.hold(peer(), FIRST, now), Change::Nothing);
        assert!(held.keep(peer(), listening()).is_none());
        assert!(held.keep(peer(), listening()).is_some());
        assert_eq!(held.hold(peer(), SECOND, now), Change::Moved);
        assert!(held.release(peer(), FIRST).is_none());
        assert_eq!(held.len(), 1);
        assert!(held.release(peer(), SECOND).is_some());
        assert_eq!(held.len(), 0);
    }
}
