//! The introductions that a callee has not settled: one side may wait for the other in vain.

use std::{
    collections::{BTreeMap, VecDeque},
    iter,
    time::{Duration, Instant},
};

use p2pconnect_proto::{PeerId, SessionToken, nodes::NodeId};

use super::{ConnectionId, Place};

/// The most introductions that are remembered, some tens of MiB: as many as there may be in flight.
/// The oldest make room: most are settled within a second.
const MAX_TOTAL: usize = 65_536;

/// Who waits for whom in the introductions of the last seconds that no callee has called settled.
///
/// Other than [`InFlight`](super::in_flight::InFlight), which is about how much work a peer has,
/// this is about either side's being there, for as long as the other may wait for it.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// What the client on each connection takes part in, the oldest first. Those at other
    /// coordinators are looked after there.
    by_connection: BTreeMap<ConnectionId, VecDeque<Waiting>>,
    /// Each introduction by its callee's connection, or the dialler's if that is elsewhere, whether
    /// it is settled or not.
    oldest_first: VecDeque<(Instant, ConnectionId, SessionToken)>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    session: SessionToken,
    /// The dialler, on the callee's side.
    called_by: Option<PeerId>,
    /// Whether the callee has called one of this dialler's introductions settled for it.
    is_settled: bool,
    /// Where the other side is told that it waits in vain.
    other: Place,
}

/// An introduction, and its two sides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Introduced {
    pub(super) session: SessionToken,
    pub(super) dialler: (PeerId, Place),
    pub(super) callee: Place,
}

impl Unsettled {
    pub(super) const fn new() -> Self {
        Self {
            by_connection: BTreeMap::new(),
            oldest_first: VecDeque::new(),
        }
    }

    /// Notes an introduction.
    pub(super) fn start(&mut self, introduced: Introduced, now: Instant) {
        let Introduced {
            session,
            dialler: (dialler, dialling),
            callee,
        } = introduced;
        if self.oldest_first.len() >= MAX_TOTAL
            && let Some((_, callee, session)) = self.oldest_first.pop_front()
        {
            self.remove(callee, |it| it.session == session);
        }
        let mut known_by = None;
        for (place, called_by, other) in
            [(dialling, None, callee), (callee, Some(dialler), dialling)]
        {
            let Place::Here(connection) = place else {
                continue;
            };
            let waiting = Waiting {
                session,
                called_by,
                is_settled: false,
                other,
            };
            let of = self.by_connection.entry(connection).or_default();
            of.push_back(waiting);
            known_by = Some(connection);
        }
        let noted = known_by.map(|connection| (now, connection, session));
        self.oldest_first.extend(noted);
    }

    /// Notes that the callee on this connection is done with an introduction of this dialler.
    ///
    /// It does not say with which, and a process that has been killed may have left another one
    /// behind. So all of them are forgotten when it is done with as many; who is told too much of
    /// an introduction that is over pays no heed. Returns those whose dialler is elsewhere, and
    /// where.
    pub(super) fn settle(
        &mut self,
        dialler: PeerId,
        callee: ConnectionId,
    ) -> Vec<(SessionToken, NodeId)> {
        let Some(of) = self.by_connection.get_mut(&callee) else {
            return Vec::new();
        };
        let mut left = of
            .iter_mut()
            .filter(|it| it.called_by == Some(dialler) && !it.is_settled);
        if let Some(oldest) = left.next() {
            oldest.is_settled = true;
        }
        if left.next().is_some() {
            return Vec::new();
        }
        let over = self.forget_those(callee, |it| it.called_by == Some(dialler));
        let there = over
            .into_iter()
            .filter_map(|(session, dialler)| match dialler {
                Place::There(node) => Some((session, node)),
                Place::Here(_) => None,
            });
        there.collect()
    }

    /// Forgets one introduction of the client on this connection.
    pub(super) fn forget_one(&mut self, session: SessionToken, connection: ConnectionId) {
        self.remove(connection, |it| it.session == session);
    }

    /// Tells whether anybody waits for the client on this connection.
    pub(super) fn is_awaited(&self, connection: ConnectionId) -> bool {
        self.by_connection.contains_key(&connection)
    }

    /// Forgets all introductions of the client on this connection, as it is gone. Returns who waits
    /// for it, and in which.
    pub(super) fn forget(&mut self, connection: ConnectionId) -> Vec<(SessionToken, Place)> {
        self.forget_those(connection, |_| true)
    }

    /// Forgets the introductions that the client on this connection has asked for. Returns who
    /// waits for it, and in which.
    pub(super) fn forget_dials(&mut self, connection: ConnectionId) -> Vec<(SessionToken, Place)> {
        self.forget_those(connection, |it| it.called_by.is_none())
    }

    fn forget_those(
        &mut self,
        connection: ConnectionId,
        are_meant: impl Fn(&Waiting) -> bool,
    ) -> Vec<(SessionToken, Place)> {
        let removed = iter::from_fn(|| self.remove(connection, &are_meant));
        removed.map(|it| (it.session, it.other)).collect()
    }

    /// Returns how many entries there are.
    pub(super) fn len(&self) -> usize {
        self.by_connection.len() + self.oldest_first.len()
    }

    /// Forgets the introductions that are older than this.
    pub(super) fn expire(&mut self, age: Duration, now: Instant) {
        while let Some(&(at, callee, session)) = self.oldest_first.front() {
            if now.saturating_duration_since(at) < age {
                break;
            }
            self.oldest_first.pop_front();
            self.remove(callee, |it| it.session == session);
        }
    }

    /// Removes the first introduction of a client that is meant, on both sides; returns the
    /// client's.
    fn remove(
        &mut self,
        connection: ConnectionId,
        is_meant: impl Fn(&Waiting) -> bool,
    ) -> Option<Waiting> {
        let mut of = self.by_connection.get(&connection)?.iter();
        let found = *of.find(|it| is_meant(it))?;
        let sides = [Place::Here(connection), found.other];
        for side in sides {
            if let Place::Here(connection) = side
                && let Some(of) = self.by_connection.get_mut(&connection)
            {
                of.retain(|it| it.session != found.session);
                if of.is_empty() {
                    self.by_connection.remove(&connection);
                }
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(20);
    const DIALLER: ConnectionId = ConnectionId(1);
    const CALLEE: ConnectionId = ConnectionId(2);

    fn session(n: u8) -> SessionToken {
        SessionToken::from_bytes([n; SessionToken::LEN])
    }

    fn peer(n: u8) -> PeerId {
        PeerId::from_public_key([n; 32])
    }

    fn started(sessions: &[u8], now: Instant) -> Unsettled {
        let mut unsettled = Unsettled::new();
        for n in sessions {
            let introduced = Introduced {
                session: session(*n),
                dialler: (peer(1), Place::Here(DIALLER)),
                callee: Place::Here(CALLEE),
            };
            unsettled.start(introduced, now);
        }
        unsettled
    }

    #[test]
    fn each_side_waits_for_the_other_until_the_callee_calls_it_settled() {
        let mut unsettled = started(&[7], Instant::now());
        unsettled.settle(peer(9), CALLEE);
        unsettled.settle(peer(1), DIALLER);
        for side in [DIALLER, CALLEE] {
            assert!(unsettled.is_awaited(side), "others settle nothing");
        }
        unsettled.settle(peer(1), CALLEE);
        assert!(unsettled.by_connection.is_empty());
        let mut unsettled = started(&[7, 8], Instant::now());
        unsettled.settle(peer(1), CALLEE);
        assert!(unsettled.is_awaited(DIALLER));
        unsettled.settle(peer(1), CALLEE);
        assert!(unsettled.by_connection.is_empty());
    }

    #[test]
    fn what_is_settled_may_be_another_introduction_so_all_are_told_of() {
        for (gone, other) in [(DIALLER, CALLEE), (CALLEE, DIALLER)] {
            let mut unsettled = started(&[7, 8, 9], Instant::now());
            unsettled.settle(peer(1), CALLEE);
            let told = [7, 8, 9].map(|n| (session(n), Place::Here(other)));
            assert_eq!(unsettled.forget(gone), told);
            assert!(unsettled.by_connection.is_empty());
        }
    }

    #[test]
    fn a_dialler_that_is_killed_and_comes_again_is_still_awaited() {
        let mut unsettled = started(&[7], Instant::now());
        let again = ConnectionId(3);
        let introduced = Introduced {
            session: session(8),
            dialler: (peer(1), Place::Here(again)),
            callee: Place::Here(CALLEE),
        };
        unsettled.start(introduced, Instant::now());
        // The second one was turned away, as there was no room.
        unsettled.settle(peer(1), CALLEE);
        assert_eq!(
            unsettled.forget(DIALLER),
            [(session(7), Place::Here(CALLEE))]
        );
        assert!(!unsettled.is_awaited(DIALLER) && unsettled.is_awaited(again));
    }

    #[test]
    fn what_a_client_has_asked_for_is_forgotten_apart_from_what_it_is_called_for() {
        for (client, forgotten) in [(DIALLER, 2), (CALLEE, 0)] {
            let mut unsettled = started(&[7, 8], Instant::now());
            let told = unsettled.forget_dials(client);
            assert_eq!(told.len(), forgotten);
            assert!(told.iter().all(|(_, other)| *other == Place::Here(CALLEE)));
            assert_eq!(unsettled.by_connection.is_empty(), forgotten > 0);
        }
    }

    #[test]
    fn a_dialler_elsewhere_is_named_when_nobody_waits_for_it_any_more() {
        let node = NodeId::from_bytes([7; 16]);
        let now = Instant::now();
        let mut unsettled = Unsettled::new();
        for n in [7, 8] {
            let introduced = Introduced {
                session: session(n),
                dialler: (peer(1), Place::There(node)),
                callee: Place::Here(CALLEE),
            };
            unsettled.start(introduced, now);
        }
        assert_eq!(unsettled.settle(peer(1), CALLEE), []);
        let over = [7, 8].map(|n| (session(n), node));
        assert_eq!(unsettled.settle(peer(1), CALLEE), over);
        assert!(!unsettled.is_awaited(CALLEE));

        let introduced = Introduced {
            session: session(9),
            dialler: (peer(1), Place::Here(DIALLER)),
            callee: Place::There(node),
        };
        unsettled.start(introduced, now);
        assert_eq!(
            unsettled.forget(DIALLER),
            [(session(9), Place::There(node))]
        );
        unsettled.start(introduced, now);
        unsettled.forget_one(session(9), DIALLER);
        assert!(!unsettled.is_awaited(DIALLER));
        unsettled.start(introduced, now);
        unsettled.expire(AGE, now + AGE);
        assert!(unsettled.by_connection.is_empty() && unsettled.oldest_first.is_empty());
    }

    #[test]
    fn nobody_waits_for_longer_than_a_while() {
        let now = Instant::now();
        let mut unsettled = started(&[7, 8], now);
        unsettled.settle(peer(1), CALLEE);
        unsettled.expire(AGE, now + AGE / 2);
        assert!(unsettled.is_awaited(DIALLER));
        unsettled.expire(AGE, now + AGE);
        assert!(unsettled.by_connection.is_empty() && unsettled.oldest_first.is_empty());
    }
}
