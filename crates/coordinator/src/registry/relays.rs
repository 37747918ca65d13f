//! Between whom the bytes of which handshake pass, and how many.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use p2pconnect_proto::{
    SessionToken,
    message::{MAX_HANDSHAKE, RefusalReason},
};

use super::Place;

/// The most introductions that are remembered, some tens of MiB. There may be 65,536 in flight, for
/// a quarter of the time that is theirs here. The oldest make room: most are over within a second.
const MAX_TOTAL: usize = 4 * 65_536;

/// What a flight counts for at least, so that there is an end to short ones too. It is some tens of
/// bytes on the wire whatever is in it.
const LEAST_CHARGE: usize = 64;

/// Between which places the bytes of which handshake pass, and how many more may.
///
/// There is an entry for each introduction of the last seconds, whether it is over or not.
#[derive(Debug)]
pub(super) struct Relays {
    by_session: BTreeMap<SessionToken, [Party; 2]>,
    oldest_first: VecDeque<(Instant, SessionToken)>,
}

#[derive(Debug, Clone, Copy)]
struct Party {
    place: Place,
    /// How many bytes it may still send, by what they are counted for.
    left: usize,
}

impl Relays {
    pub(super) const fn new() -> Self {
        Self {
            by_session: BTreeMap::new(),
            oldest_first: VecDeque::new(),
        }
    }

    /// Notes an introduction whose dialler has sent so many bytes with it.
    pub(super) fn start(
        &mut self,
        session: SessionToken,
        dialler: Place,
        callee: Place,
        sent: usize,
        now: Instant,
    ) {
        let party = |place, left| Party { place, left };
        let parties = [
            party(dialler, MAX_HANDSHAKE.saturating_sub(sent)),
            party(callee, MAX_HANDSHAKE),
        ];
        if self.oldest_first.len() >= MAX_TOTAL
            && let Some((_, oldest)) = self.oldest_first.pop_front()
        {
            self.by_session.remove(&oldest);
        }
        self.by_session.insert(session, parties);
        self.oldest_first.push_back((now, session));
    }

    /// Returns where so many bytes from another place go to.
    pub(super) fn pass(
        &mut self,
        session: SessionToken,
        from: Place,
        bytes: usize,
    ) -> Result<Place, RefusalReason> {
        let parties = self.by_session.get_mut(&session);
        let [dialler, callee] = parties.ok_or(RefusalReason::Unavailable)?;
        let (sender, receiver) = if dialler.place == from {
            (dialler, callee)
        } else if callee.place == from {
            (callee, dialler)
        } else {
            return Err(RefusalReason::Unavailable);
        };
        let charge = bytes.max(LEAST_CHARGE);
        sender.left = sender
            .left
            .checked_sub(charge)
            .ok_or(RefusalReason::TooLarge)?;
        Ok(receiver.place)
    }

    /// Returns where the other side of an introduction is, for one of its two places.
    pub(super) fn other_side(&self, session: SessionToken, of: Place) -> Option<Place> {
        let [dialler, callee] = self.by_session.get(&session)?;
        let places = [(dialler, callee), (callee, dialler)];
        let found = places.into_iter().find(|(own, _)| own.place == of);
        found.map(|(_, other)| other.place)
    }

    /// Tells whether there is an entry for an introduction.
    pub(super) fn knows(&self, session: SessionToken) -> bool {
        self.by_session.contains_key(&session)
    }

    /// Returns how many entries there are.
    pub(super) fn len(&self) -> usize {
        self.by_session.len() + self.oldest_first.len()
    }

    /// Forgets the introductions that are older than this.
    pub(super) fn expire(&mut self, age: Duration, now: Instant) {
        while let Some(&(at, session)) = self.oldest_first.front() {
            if now.saturating_duration_since(at) < age {
                break;
            }
            self.oldest_first.pop_front();
            self.by_session.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::ConnectionId;
    use p2pconnect_proto::nodes::NodeId;

    const DIALLER: Place = Place::Here(ConnectionId(1));
    const CALLEE: Place = Place::Here(ConnectionId(2));
    const SESSION: SessionToken = SessionToken::from_bytes([7; 16]);
    const AGE: Duration = Duration::from_secs(5);

    fn started(sent: usize, now: Instant) -> Relays {
        let mut relays = Relays::new();
        relays.start(SESSION, DIALLER, CALLEE, sent, now);
        relays
    }

    #[test]
    fn bytes_go_to_the_other_side_and_nowhere_else() {
        let mut relays = started(0, Instant::now());
        assert_eq!(relays.pass(SESSION, DIALLER, 100), Ok(CALLEE));
        assert_eq!(relays.pass(SESSION, CALLEE, 100), Ok(DIALLER));
        let stranger = Place::Here(ConnectionId(3));
        assert_eq!(
            relays.pass(SESSION, stranger, 100),
            Err(RefusalReason::Unavailable)
        );
        let other = SessionToken::from_bytes([8; 16]);
        assert_eq!(
            relays.pass(other, DIALLER, 100),
            Err(RefusalReason::Unavailable)
        );
    }

    #[test]
    fn each_side_knows_where_the_other_is_and_nobody_else_does() {
        let there = Place::There(NodeId::from_bytes([7; 16]));
        let mut relays = Relays::new();
        relays.start(SESSION, there, CALLEE, 0, Instant::now());
        assert_eq!(relays.other_side(SESSION, CALLEE), Some(there));
        assert_eq!(relays.other_side(SESSION, there), Some(CALLEE));
        assert_eq!(relays.other_side(SESSION, DIALLER), None);
        assert_eq!(relays.pass(SESSION, there, 100), Ok(CALLEE));
        let another = Place::There(NodeId::from_bytes([8; 16]));
        assert_eq!(
            relays.pass(SESSION, another, 100),
            Err(RefusalReason::Unavailable)
        );
    }

    #[test]
    fn each_side_may_send_so_many() {
        let mut relays = started(1_000, Instant::now());
        let left = MAX_HANDSHAKE - 1_000;
        assert_eq!(
            relays.pass(SESSION, DIALLER, left + 1),
            Err(RefusalReason::TooLarge)
        );
        assert_eq!(relays.pass(SESSION, DIALLER, left), Ok(CALLEE));
        assert_eq!(
            relays.pass(SESSION, DIALLER, 1),
            Err(RefusalReason::TooLarge)
        );
        assert_eq!(relays.pass(SESSION, CALLEE, MAX_HANDSHAKE), Ok(DIALLER));
        assert_eq!(
            relays.pass(SESSION, CALLEE, 1),
            Err(RefusalReason::TooLarge)
        );
    }

    #[test]
    fn there_is_an_end_to_flights_of_no_bytes() {
        let mut relays = started(0, Instant::now());
        for _ in 0..MAX_HANDSHAKE / LEAST_CHARGE {
            assert_eq!(relays.pass(SESSION, CALLEE, 0), Ok(DIALLER));
        }
        assert_eq!(
            relays.pass(SESSION, CALLEE, 0),
            Err(RefusalReason::TooLarge)
        );
        assert_eq!(relays.pass(SESSION, DIALLER, 0), Ok(CALLEE));
    }

    #[test]
    fn nothing_passes_after_a_while_and_nothing_stays() {
        let now = Instant::now();
        let mut relays = started(0, now);
        relays.expire(AGE, now + AGE / 2);
        assert!(relays.pass(SESSION, DIALLER, 1).is_ok());
        relays.expire(AGE, now + AGE);
        assert_eq!(
            relays.pass(SESSION, DIALLER, 1),
            Err(RefusalReason::Unavailable)
        );
        assert!(relays.by_session.is_empty() && relays.oldest_first.is_empty());
    }

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        let now = Instant::now();
        let mut relays = started(0, now);
        let numbered = |n: u32| {
            let mut bytes = [8; SessionToken::LEN];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            SessionToken::from_bytes(bytes)
        };
        let others = u32::try_from(MAX_TOTAL).expect("it is small");
        for n in 0..others {
            relays.start(numbered(n), DIALLER, CALLEE, 0, now);
        }
        assert_eq!(relays.by_session.len(), MAX_TOTAL);
        assert_eq!(
            relays.pass(SESSION, DIALLER, 1),
            Err(RefusalReason::Unavailable)
        );
        assert_eq!(relays.pass(numbered(0), DIALLER, 1), Ok(CALLEE));
        assert_eq!(relays.pass(numbered(others - 1), DIALLER, 1), Ok(CALLEE));
    }
}
