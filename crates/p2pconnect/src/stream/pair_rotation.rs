//! Rotates the pairs of punch ports that lead to a peer.
//!
//! Two endpoints have four pairs: each of two ports here with each of two there. The agent begins
//! with the two primary ones, and with another pair only when that should have been enough. But a
//! pair that the last connection used may still be in use: by that connection, or by its end, which
//! takes a round trip and on one side a minute. So each introduction begins with the pair that was
//! used longest ago. Both sides have made the same connections and come to the same pair; should
//! they not, their SYNs cross a little later, where they had crossed at first.
//!
//! Introductions at the same time must not contend for a pair: SYNs of two of them that meet make a
//! connection that is neither's. Those of either direction begin with two pairs of their own.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, Weak},
};

use p2pconnect_proto::{Candidate, NatMapping, NatReport, PeerId, PunchPort, Role};
use p2pconnect_punch::{Base, CandidatePair};

use crate::{stream::parties::Parties, sync::lock};

/// Connections that are remembered, a few for each of a thousand peers.
const MAX_USED: usize = 4096;

/// The pairs that a dial begins with, the controlling side's port first, in the agent's own order.
const PAIRS: [[PunchPort; 2]; 2] = [
    [PunchPort::PRIMARY, PunchPort::PRIMARY],
    [PunchPort::SPARE, PunchPort::SPARE],
];

/// The pairs that a dial of the greater id begins with.
const OTHERS: [[PunchPort; 2]; 2] = [
    [PunchPort::PRIMARY, PunchPort::SPARE],
    [PunchPort::SPARE, PunchPort::PRIMARY],
];

/// The pairs of ports that introductions have tried and connections were made on, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct PairRotation(Mutex<VecDeque<PairUse>>);

/// A pair of ports that was tried or used.
#[derive(Debug)]
struct PairUse {
    key: PairKey,
    /// Dropped with the connection, or with the introduction.
    lease: Weak<PairLease>,
    /// Whether there has been a connection. A pair that was only tried keeps its rank: where a NAT
    /// refuses simultaneous open, the pair that serves at last must be the last one again.
    has_served: bool,
}

/// A pair of ports: one of this machine's and one of the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PairKey {
    peer: PeerId,
    local_port: u16,
    remote: SocketAddr,
}

impl PairKey {
    const fn new(peer: PeerId, pair: &CandidatePair) -> Self {
        Self {
            peer,
            local_port: pair.local.port(),
            remote: pair.remote,
        }
    }
}

/// The use of a pair of ports, by a connection or by an introduction that begins with the pair.
/// Ends when this is dropped.
#[derive(Debug)]
pub(crate) struct PairLease(());

impl PairRotation {
    /// Notes that there is a connection on a pair.
    pub(crate) fn note(&self, peer: PeerId, pair: &CandidatePair) -> Arc<PairLease> {
        let key = PairKey::new(peer, pair);
        let lease = Arc::new(PairLease(()));
        self.with(|all| {
            all.retain(|it| !(it.key == key && it.has_served));
            push(all, key, &lease, true);
        });
        lease
    }

    /// Notes that there is a connection on a pair, and that there has been none on the one that was
    /// noted before: the peer does not know of it, and both are to come to the same pair next.
    pub(crate) fn correct(
        &self,
        peer: PeerId,
        wrong: &CandidatePair,
        right: &CandidatePair,
    ) -> Arc<PairLease> {
        let key = PairKey::new(peer, wrong);
        self.with(|all| all.retain(|it| !(it.key == key && it.has_served)));
        self.note(peer, right)
    }

    /// Returns whether a noted connection on a pair lasts; `None` if there is none.
    #[cfg(test)]
    pub(crate) fn noted(&self, peer: PeerId, pair: &CandidatePair) -> Option<bool> {
        let key = PairKey::new(peer, pair);
        self.with(|all| {
            let it = all.iter().find(|it| it.key == key && it.has_served)?;
            Some(it.lease.strong_count() > 0)
        })
    }

    /// Names the punch ports so that the pair that was used longest ago comes first, of those
    /// without a connection if there are such.
    ///
    /// Not where a NAT's mapping varies: there the agent plans with the ports that it is told of.
    pub(crate) fn take(
        &self,
        parties: Parties,
        nats: [&NatReport; 2],
        bases: &mut [Base],
        candidates: &mut [Candidate],
    ) -> Option<Arc<PairLease>> {
        let varies = |nat: &&NatReport| {
            nat.mapping
                .is_some_and(|it| it != NatMapping::EndpointIndependent)
        };
        if nats.iter().any(varies) {
            return None;
        }
        let last_use = |[local, remote]: [PunchPort; 2]| {
            let is_on = |used: &PairKey| {
                let here =
                    |it: &Base| it.punch_port == local && it.address.port() == used.local_port;
                let there = |it: &Candidate| it.punch_port == remote && it.address == used.remote;
                used.peer == parties.peer && bases.iter().any(here) && candidates.iter().any(there)
            };
            self.with(|all| {
                let on_it = || all.iter().filter(|it| is_on(&it.key));
                let is_leased = on_it().any(|it| it.lease.strong_count() > 0);
                let has_served = |it: &PairUse| it.has_served && is_on(&it.key);
                (is_leased, all.iter().rposition(has_served))
            })
        };
        let exists = |[local, remote]: &[PunchPort; 2]| {
            bases.iter().any(|it| it.punch_port == *local)
                && candidates.iter().any(|it| it.punch_port == *remote)
        };
        let rank = |(is_other, pair): &(bool, [PunchPort; 2])| {
            let (is_leased, last) = last_use(*pair);
            // What was never used comes before any use.
            (is_leased, *is_other, last)
        };
        let all = in_order(parties).into_iter();
        let first = all.filter(|(_, pair)| exists(pair)).min_by_key(rank);
        let (_, [local, remote]) = first?;
        // The next introduction, which may come while this one lasts, begins with another.
        let lease = Arc::new(PairLease(()));
        for base in bases.iter().filter(|it| it.punch_port == local) {
            for candidate in candidates.iter().filter(|it| it.punch_port == remote) {
                let key = PairKey {
                    peer: parties.peer,
                    local_port: base.address.port(),
                    remote: candidate.address,
                };
                self.with(|all| push(all, key, &lease, false));
            }
        }
        if local == PunchPort::SPARE {
            bases.iter_mut().for_each(|it| swap(&mut it.punch_port));
        }
        if remote == PunchPort::SPARE {
            candidates
                .iter_mut()
                .for_each(|it| swap(&mut it.punch_port));
        }
        Some(lease)
    }

    fn with<T>(&self, use_all: impl FnOnce(&mut VecDeque<PairUse>) -> T) -> T {
        use_all(&mut lock(&self.0))
    }
}

fn push(all: &mut VecDeque<PairUse>, key: PairKey, lease: &Arc<PairLease>, has_served: bool) {
    all.retain(|it| it.has_served || it.lease.strong_count() > 0);
    if all.len() == MAX_USED {
        all.pop_front();
    }
    let lease = Arc::downgrade(lease);
    all.push_back(PairUse {
        key,
        lease,
        has_served,
    });
}

/// Returns the pairs of a dial, our own port first, and whether they are the other direction's.
fn in_order(parties: Parties) -> [(bool, [PunchPort; 2]); 4] {
    let Parties { own, peer, role } = parties;
    let is_of_greater = (own > peer) == (role == Role::Controlling);
    let ([a, b], [c, d]) = if is_of_greater {
        (OTHERS, PAIRS)
    } else {
        (PAIRS, OTHERS)
    };
    [(false, a), (false, b), (true, c), (true, d)].map(|(is_other, [controlling, controlled])| {
        match role {
            Role::Controlling => (is_other, [controlling, controlled]),
            Role::Controlled => (is_other, [controlled, controlling]),
        }
    })
}

fn swap(port: &mut PunchPort) {
    if *port == PunchPort::PRIMARY {
        *port = PunchPort::SPARE;
    } else if *port == PunchPort::SPARE {
        *port = PunchPort::PRIMARY;
    }
}

#[cfg(test)]
mod tests {
    use p2pconnect_proto::CandidateKind;

    use super::*;

    const PEER: PeerId = PeerId::from_public_key([1; 32]);

    const LESSER: PeerId = PeerId::from_public_key([0; 32]);

    fn address(host: u8, port: PunchPort) -> SocketAddr {
        let spare = u16::from(port == PunchPort::SPARE);
        ([192, 0, 2, host], 40_000 + spare).into()
    }

    /// One side of two endpoints, each at an address of its own.
    struct Side {
        pair_rotation: PairRotation,
        role: Role,
        host: u8,
        other: u8,
    }

    impl Side {
        fn both() -> [Self; 2] {
            let side = |role, host, other| Self {
                pair_rotation: PairRotation::default(),
                role,
                host,
                other,
            };
            [side(Role::Controlling, 1, 2), side(Role::Controlled, 2, 1)]
        }

        fn peer(&self) -> PeerId {
            if self.host == 1 { PEER } else { LESSER }
        }

        /// Returns the pair that this side begins with, its own port first.
        fn begin(&self, nat: &NatReport) -> CandidatePair {
            let ports = [PunchPort::PRIMARY, PunchPort::SPARE];
            let mut bases = ports.map(|punch_port| Base {
                address: address(self.host, punch_port),
                punch_port,
            });
            let mut candidates = ports.map(|port| Candidate::host(address(self.other, port), port));
            let own = if self.host == 1 { LESSER } else { PEER };
            let parties = Parties {
                own,
                peer: self.peer(),
                role: self.role,
            };
            drop(
                self.pair_rotation
                    .take(parties, [nat, nat], &mut bases, &mut candidates),
            );
            let primary = |it: &&Base| it.punch_port == PunchPort::PRIMARY;
            let local = bases.iter().find(primary).map(|it| it.address);
            let primary = |it: &&Candidate| it.punch_port == PunchPort::PRIMARY;
            let remote = candidates.iter().find(primary).map(|it| it.address);
            CandidatePair {
                local: local.expect("one of them is the primary one"),
                remote: remote.expect("one of them is the primary one"),
                kind: CandidateKind::Host,
            }
        }
    }

    #[test]
    fn both_sides_take_two_pairs_in_turn_and_others_the_other_way_round() {
        let [mut one, mut other] = Side::both();
        let nat = NatReport::default();
        let mut seen = [Vec::new(), Vec::new()];
        for n in 0..12 {
            let (here, there) = (one.begin(&nat), other.begin(&nat));
            assert_eq!((here.local, here.remote), (there.remote, there.local));
            drop(one.pair_rotation.note(one.peer(), &here));
            drop(other.pair_rotation.note(other.peer(), &there));
            seen[n % 2].push((here.local, here.remote));
            std::mem::swap(&mut one.role, &mut other.role);
        }
        for way in &seen {
            assert_ne!(way[0], way[1]);
            assert_eq!(way[..2], way[2..4]);
            assert_eq!(way[..2], way[4..6]);
        }
        assert!(seen[0].iter().all(|pair| !seen[1].contains(pair)));
    }

    #[test]
    fn as_many_connections_are_made_as_there_are_pairs() {
        let [one, _] = Side::both();
        let mut lease = Vec::new();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let pair = one.begin(&NatReport::default());
            assert!(!seen.contains(&pair));
            lease.push(one.pair_rotation.note(one.peer(), &pair));
            seen.push(pair);
        }
    }

    #[test]
    fn a_pair_that_was_only_tried_keeps_its_rank() {
        let [one, _] = Side::both();
        let nat = NatReport::default();
        assert_eq!(one.begin(&nat), one.begin(&nat));
    }

    #[test]
    fn a_pair_with_a_connection_comes_after_all_others() {
        let [one, _] = Side::both();
        let nat = NatReport::default();
        let lasting = one.begin(&nat);
        let lease = one.pair_rotation.note(one.peer(), &lasting);
        for _ in 0..12 {
            let pair = one.begin(&nat);
            assert_ne!(pair, lasting);
            drop(one.pair_rotation.note(one.peer(), &pair));
        }
        drop(lease);
        assert_eq!(one.begin(&nat), lasting);
    }

    #[test]
    fn a_pair_whose_connection_came_to_nothing_is_as_good_as_unused() {
        let [one, _] = Side::both();
        let nat = NatReport::default();
        let unconfirmed = one.begin(&nat);
        let lease = one.pair_rotation.note(one.peer(), &unconfirmed);
        let another = one.begin(&nat);
        let _lease = one
            .pair_rotation
            .correct(one.peer(), &unconfirmed, &another);
        drop(lease);
        assert_eq!(one.begin(&nat), unconfirmed);
        assert_eq!(one.pair_rotation.noted(one.peer(), &another), Some(true));
    }

    #[test]
    fn a_connection_with_somebody_else_changes_nothing() {
        let [one, _] = Side::both();
        let [fresh, _] = Side::both();
        let first = fresh.begin(&NatReport::default());
        drop(
            one.pair_rotation
                .note(PeerId::from_public_key([2; 32]), &first),
        );
        assert_eq!(one.begin(&NatReport::default()), first);
    }

    #[test]
    fn where_a_mapping_varies_the_ports_keep_their_names() {
        let [one, _] = Side::both();
        let nat = NatReport {
            mapping: Some(NatMapping::AddressDependent),
            ..NatReport::default()
        };
        let before = one.begin(&nat);
        drop(one.pair_rotation.note(one.peer(), &before));
        assert_eq!(one.begin(&nat), before);
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let [one, _] = Side::both();
        let mut pair = one.begin(&NatReport::default());
        for port in 0..=u16::MAX {
            pair.remote.set_port(port);
            drop(one.pair_rotation.note(one.peer(), &pair));
            if usize::from(port) > 2 * MAX_USED {
                break;
            }
        }
        assert_eq!(one.pair_rotation.with(|all| all.len()), MAX_USED);
    }
}
