//! The introductions in flight: how many each peer may have, and which dials one of them serves.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use p2pconnect_proto::{PeerId, SessionToken};

use super::{Client, Limits, Place};

/// The most introductions in flight in all, some MiB.
const MAX_TOTAL: usize = 65_536;

/// The most introductions in flight from one dialler to one callee: the seven that a dial asks for
/// at most if the callee calls none of them settled, and one of a dial that was given up before.
const MAX_BETWEEN_TWO: usize = 8;

/// The shortest time after which a dial that finds no room may be made again: a round trip or two.
const SHORTEST: Duration = Duration::from_millis(100);

const LOWEST: PeerId = PeerId::from_public_key([0; 32]);
const HIGHEST: PeerId = PeerId::from_public_key([0xFF; 32]);

/// The introductions of the last seconds that no callee has called settled.
///
/// A callee that says nothing is presumably still busy. Several introductions between the same two
/// peers in the same direction count as one, and have a limit of their own.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The oldest first.
    by_callee: BTreeMap<(PeerId, PeerId), VecDeque<Underway>>,
    by_dialler: BTreeSet<(PeerId, PeerId)>,
    oldest_first: VecDeque<Started>,
}

#[derive(Debug, Clone, Copy)]
struct Started {
    at: Instant,
    dialler: PeerId,
    callee: PeerId,
}

#[derive(Debug)]
struct Underway {
    at: Instant,
    session: SessionToken,
    dialler: Place,
    /// Nothing while others are asked who holds the callee.
    callee: Option<Place>,
    /// Whether it serves a dial of the callee's already, or can serve none.
    is_shared: bool,
}

/// Who is to be introduced to whom, and the name of the introduction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Introducing {
    pub(super) session: SessionToken,
    pub(super) dialler: PeerId,
    pub(super) from: Place,
    /// Whether a dial of the callee's can be served by it: the dialler dials over the connection
    /// that it would be dialled over.
    pub(super) may_serve_another: bool,
    pub(super) callee: PeerId,
    /// Where the callee is, as far as that is known.
    pub(super) to: Option<Place>,
}

impl InFlight {
    /// Returns the state in which nobody is busy.
    pub(super) const fn new() -> Self {
        Self {
            by_callee: BTreeMap::new(),
            by_dialler: BTreeSet::new(),
            oldest_first: VecDeque::new(),
        }
    }

    /// Notes an introduction, if the limits leave room for it. Otherwise returns when they may:
    /// nobody knows when the oldest of those in the way is over, but that it lasts as long again as
    /// it has lasted already is as likely as not.
    pub(super) fn start(
        &mut self,
        introducing: Introducing,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Duration> {
        self.expire(limits, now);
        let until_over = |since: Option<Instant>| {
            let lasted = since.map_or(Duration::ZERO, |it| now.saturating_duration_since(it));
            let at_most = limits.in_flight.saturating_sub(lasted);
            lasted.max(SHORTEST).min(at_most)
        };
        let (dialler, callee) = (introducing.dialler, introducing.callee);
        let between = self.between(dialler, callee);
        if between >= MAX_BETWEEN_TWO {
            return Err(until_over(self.oldest_of([(callee, dialler)])));
        }
        if between == 0 && self.of_callee(callee) >= limits.max_in_flight {
            let all = (callee, LOWEST)..=(callee, HIGHEST);
            let pairs = self.by_callee.range(all).map(|(pair, _)| *pair);
            return Err(until_over(self.oldest_of(pairs)));
        }
        if between == 0 && self.of_dialler(dialler) >= limits.max_in_flight {
            let all = (dialler, LOWEST)..=(dialler, HIGHEST);
            let pairs = self.by_dialler.range(all);
            return Err(until_over(
                self.oldest_of(pairs.map(|(_, callee)| (*callee, dialler))),
            ));
        }
        if self.oldest_first.len() >= MAX_TOTAL {
            return Err(until_over(self.oldest_first.front().map(|it| it.at)));
        }
        let underway = Underway {
            at: now,
            session: introducing.session,
            dialler: introducing.from,
            callee: introducing.to,
            is_shared: !introducing.may_serve_another,
        };
        let underway_to = self.by_callee.entry((callee, dialler)).or_default();
        underway_to.push_back(underway);
        self.by_dialler.insert((dialler, callee));
        self.oldest_first.push_back(Started {
            at: now,
            dialler,
            callee,
        });
        Ok(())
    }

    /// Returns when the pair of callee and dialler has begun whose newest introduction is the
    /// oldest among these: its place is the next to be free.
    fn oldest_of(&self, pairs: impl IntoIterator<Item = (PeerId, PeerId)>) -> Option<Instant> {
        let newest = |pair| Some(self.by_callee.get(&pair)?.back()?.at);
        pairs.into_iter().filter_map(newest).min()
    }

    /// Finds the introduction that serves this dial as well: the callee has dialled the dialler
    /// just before. Each serves one dial.
    ///
    /// Only where both dial over the connection that they are registered on is the endpoint that
    /// dials the one that would be dialled.
    pub(super) fn share(
        &mut self,
        dialler: &Client,
        callee: &Client,
        limits: &Limits,
        now: Instant,
    ) -> Option<SessionToken> {
        let ends = (
            Place::Here(callee.connection),
            Some(Place::Here(dialler.connection)),
        );
        let other_way = self.by_callee.get_mut(&(dialler.peer, callee.peer))?;
        share_one(other_way, limits, now, |it| (it.dialler, it.callee) == ends)
    }

    /// The same where the callee is not here: it has dialled by way of another coordinator.
    pub(super) fn share_with_one_elsewhere(
        &mut self,
        dialler: &Client,
        callee: PeerId,
        limits: &Limits,
        now: Instant,
    ) -> Option<SessionToken> {
        let here = Some(Place::Here(dialler.connection));
        let other_way = self.by_callee.get_mut(&(dialler.peer, callee))?;
        share_one(other_way, limits, now, |it| {
            matches!(it.dialler, Place::There(_)) && it.callee == here
        })
    }

    /// The same where the dialler is not here, and its coordinator is being asked for the callee's
    /// own dial: the two pass each other on the way, and both coordinators have to come to the same
    /// end. The dial of the peer with the smaller id prevails.
    pub(super) fn share_with_one_asked_for(
        &mut self,
        dialler: PeerId,
        callee: &Client,
        limits: &Limits,
        now: Instant,
    ) -> Option<SessionToken> {
        if dialler < callee.peer {
            return None;
        }
        let here = Place::Here(callee.connection);
        let other_way = self.by_callee.get_mut(&(dialler, callee.peer))?;
        share_one(other_way, limits, now, |it| {
            it.dialler == here && it.callee.is_none()
        })
    }

    /// Notes where the callee of an introduction is, who was asked for elsewhere.
    pub(super) fn found(
        &mut self,
        dialler: PeerId,
        callee: PeerId,
        session: SessionToken,
        at: Place,
    ) {
        let underway = self.by_callee.get_mut(&(callee, dialler));
        let mut underway = underway.into_iter().flatten();
        if let Some(found) = underway.find(|it| it.session == session) {
            found.callee = Some(at);
        }
    }

    /// Forgets an introduction that has come to nothing, or is known to be over.
    pub(super) fn cancel(&mut self, dialler: PeerId, callee: PeerId, session: SessionToken) {
        self.forget(dialler, callee, |underway| {
            underway.retain(|it| it.session != session);
        });
    }

    /// Forgets an introduction that the callee is done with: the oldest, since it does not say
    /// which.
    ///
    /// The dialler may have dialled again before this was heard of.
    pub(super) fn settle(&mut self, dialler: PeerId, callee: PeerId) {
        // Its place in the queue stays: a few seconds later it is found to be out of date.
        self.forget(dialler, callee, |underway| {
            underway.pop_front();
        });
    }

    fn forget(
        &mut self,
        dialler: PeerId,
        callee: PeerId,
        forget: impl FnOnce(&mut VecDeque<Underway>),
    ) {
        let Some(underway) = self.by_callee.get_mut(&(callee, dialler)) else {
            return;
        };
        forget(underway);
        if underway.is_empty() {
            self.by_callee.remove(&(callee, dialler));
            self.by_dialler.remove(&(dialler, callee));
        }
    }

    fn between(&self, dialler: PeerId, callee: PeerId) -> usize {
        let underway = self.by_callee.get(&(callee, dialler));
        underway.map_or(0, VecDeque::len)
    }

    fn of_callee(&self, callee: PeerId) -> usize {
        self.by_callee
            .range((callee, LOWEST)..=(callee, HIGHEST))
            .count()
    }

    fn of_dialler(&self, dialler: PeerId) -> usize {
        self.by_dialler
            .range((dialler, LOWEST)..=(dialler, HIGHEST))
            .count()
    }

    /// Returns how many entries there are.
    pub(super) fn len(&self) -> usize {
        self.by_callee.len() + self.by_dialler.len() + self.oldest_first.len()
    }

    /// Forgets what has been in flight for too long.
    pub(super) fn expire(&mut self, limits: &Limits, now: Instant) {
        while let Some(&Started {
            at,
            dialler,
            callee,
        }) = self.oldest_first.front()
        {
            if now.saturating_duration_since(at) < limits.in_flight {
                break;
            }
            self.oldest_first.pop_front();
            self.forget(dialler, callee, |underway| underway.retain(|it| it.at > at));
        }
    }
}

fn share_one(
    other_way: &mut VecDeque<Underway>,
    limits: &Limits,
    now: Instant,
    is_of_the_same_ends: impl Fn(&Underway) -> bool,
) -> Option<SessionToken> {
    let found = other_way.iter_mut().find(|it| {
        let is_young = now.saturating_duration_since(it.at) < limits.crossing;
        is_young && !it.is_shared && is_of_the_same_ends(it)
    })?;
    found.is_shared = true;
    Some(found.session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::ConnectionId;
    use p2pconnect_proto::nodes::NodeId;

    fn peer(n: u8) -> PeerId {
        PeerId::from_public_key([n; 32])
    }

    fn start(
        flights: &mut InFlight,
        dialler: PeerId,
        callee: PeerId,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Duration> {
        let here = Place::Here(ConnectionId(1));
        let introducing = Introducing {
            session: SessionToken::from_bytes([0; 16]),
            dialler,
            from: here,
            may_serve_another: true,
            callee,
            to: Some(here),
        };
        flights.start(introducing, limits, now)
    }

    fn starts(
        flights: &mut InFlight,
        dialler: PeerId,
        callee: PeerId,
        limits: &Limits,
        now: Instant,
    ) -> bool {
        start(flights, dialler, callee, limits, now).is_ok()
    }

    #[test]
    fn a_callee_and_a_dialler_have_so_many_at_a_time() {
        let limits = Limits {
            max_in_flight: 8,
            ..Limits::default()
        };
        let now = Instant::now();
        let mut flights = InFlight::new();
        for n in 1..=8 {
            assert!(starts(&mut flights, peer(n), peer(0), &limits, now));
        }
        assert!(!starts(&mut flights, peer(9), peer(0), &limits, now));
        assert!(
            starts(&mut flights, peer(1), peer(0), &limits, now),
            "dialling again replaces"
        );
        for n in 1..=8 {
            assert!(starts(&mut flights, peer(0xFF), peer(n), &limits, now));
        }
        assert!(!starts(&mut flights, peer(0xFF), peer(9), &limits, now));

        let later = now + limits.in_flight;
        assert!(starts(&mut flights, peer(9), peer(0), &limits, later));
        assert_eq!(flights.by_callee.len(), 1, "the rest has expired");
        assert_eq!(flights.by_dialler.len(), 1);
        assert_eq!(flights.oldest_first.len(), 1);
    }

    #[test]
    fn of_two_dials_that_pass_each_other_between_coordinators_one_serves_both() {
        let limits = Limits::default();
        let now = Instant::now();
        let there = Place::There(NodeId::from_bytes([9; 16]));
        let client = |n: u8| Client {
            peer: peer(n),
            connection: ConnectionId(n.into()),
            seen: ([192, 0, 2, n], 4433).into(),
        };
        // Each coordinator has asked for its own client's dial when the other's request comes.
        let mut served = Vec::new();
        for (own, other) in [(1, 2), (2, 1)] {
            let mut flights = InFlight::new();
            let introducing = Introducing {
                session: SessionToken::from_bytes([own; 16]),
                dialler: peer(own),
                from: Place::Here(client(own).connection),
                may_serve_another: true,
                callee: peer(other),
                to: None,
            };
            assert_eq!(flights.start(introducing, &limits, now), Ok(()));
            let mut share =
                || flights.share_with_one_asked_for(peer(other), &client(own), &limits, now);
            served.extend(share());
            assert_eq!(share(), None, "each serves one dial");
            // A later one is judged by where it prevailed.
            flights.found(peer(own), peer(other), introducing.session, there);
            assert_eq!(flights.by_callee.len(), 1);
            flights.cancel(peer(own), peer(other), introducing.session);
            assert!(flights.by_callee.is_empty() && flights.by_dialler.is_empty());
        }
        assert_eq!(served, [SessionToken::from_bytes([1; 16])]);
    }

    #[test]
    fn a_dial_from_elsewhere_serves_one_of_its_callee() {
        let limits = Limits::default();
        let now = Instant::now();
        let callee = Client {
            peer: peer(2),
            connection: ConnectionId(2),
            seen: ([192, 0, 2, 2], 4433).into(),
        };
        for may_serve_another in [true, false] {
            let mut flights = InFlight::new();
            let introducing = Introducing {
                session: SessionToken::from_bytes([1; 16]),
                dialler: peer(1),
                from: Place::There(NodeId::from_bytes([9; 16])),
                may_serve_another,
                callee: peer(2),
                to: Some(Place::Here(callee.connection)),
            };
            assert_eq!(flights.start(introducing, &limits, now), Ok(()));
            let shared = flights.share_with_one_elsewhere(&callee, peer(1), &limits, now);
            assert_eq!(shared.is_some(), may_serve_another);
        }
    }

    #[test]
    fn what_is_settled_makes_room_at_once() {
        let limits = Limits::default();
        let now = Instant::now();
        let mut flights = InFlight::new();
        for n in 1..=100 {
            assert!(starts(&mut flights, peer(n), peer(0), &limits, now));
            flights.settle(peer(n), peer(0));
        }
        assert!(starts(&mut flights, peer(1), peer(0), &limits, now));
        flights.settle(peer(2), peer(0));
        assert_eq!(
            flights.of_callee(peer(0)),
            1,
            "another's word changes nothing"
        );
        flights.expire(&limits, now + limits.in_flight);
        assert_eq!(flights.of_callee(peer(0)), 0);
        assert!(flights.oldest_first.is_empty());
    }

    #[test]
    fn dialling_again_and_again_has_an_end() {
        let limits = Limits::default();
        let now = Instant::now();
        let mut flights = InFlight::new();
        let dial = |flights: &mut InFlight, now| starts(flights, peer(1), peer(0), &limits, now);
        for _ in 0..MAX_BETWEEN_TWO {
            assert!(dial(&mut flights, now));
        }
        assert!(!dial(&mut flights, now));
        assert!(starts(&mut flights, peer(2), peer(0), &limits, now));
        assert!(starts(&mut flights, peer(1), peer(2), &limits, now));
        flights.settle(peer(1), peer(0));
        assert!(dial(&mut flights, now));
        assert!(!dial(&mut flights, now), "one has been settled");
        assert!(dial(&mut flights, now + limits.in_flight));
    }

    #[test]
    fn dialling_again_counts_from_the_last_time() {
        let limits = Limits::default();
        let now = Instant::now();
        let mut flights = InFlight::new();
        assert!(starts(&mut flights, peer(1), peer(0), &limits, now));
        let half = now + limits.in_flight / 2;
        assert!(starts(&mut flights, peer(1), peer(0), &limits, half));
        flights.expire(&limits, now + limits.in_flight);
        assert_eq!(flights.of_callee(peer(0)), 1);
        flights.expire(&limits, half + limits.in_flight);
        assert_eq!(flights.of_callee(peer(0)), 0);
    }

    #[test]
    fn who_finds_no_room_is_told_when_there_may_be_some() {
        let limits = Limits {
            max_in_flight: 2,
            ..Limits::default()
        };
        let now = Instant::now();
        let ms = Duration::from_millis;
        let mut flights = InFlight::new();
        assert_eq!(start(&mut flights, peer(1), peer(0), &limits, now), Ok(()));
        let later = now + ms(300);
        assert_eq!(
            start(&mut flights, peer(2), peer(0), &limits, later),
            Ok(())
        );
        for (passed, told) in [
            (310, 310),
            (50, 100),
            (2_000, 2_000),
            (4_000, 1_000),
            (4_990, 10),
        ] {
            let at = now + ms(passed);
            let wait = start(&mut flights, peer(3), peer(0), &limits, at);
            assert_eq!(wait, Err(ms(told)), "after {passed} ms");
        }
        // The dialler's own are in the way here.
        for callee in [4, 5] {
            assert!(starts(&mut flights, peer(3), peer(callee), &limits, now));
        }
        let wait = start(&mut flights, peer(3), peer(6), &limits, now + ms(700));
        assert_eq!(wait, Err(ms(700)));
        for _ in 0..MAX_BETWEEN_TWO {
            assert!(starts(
                &mut flights,
                peer(7),
                peer(8),
                &limits,
                now + ms(1_000)
            ));
        }
        let wait = start(&mut flights, peer(7), peer(8), &limits, now + ms(1_200));
        assert_eq!(wait, Err(ms(200)));
    }
}
