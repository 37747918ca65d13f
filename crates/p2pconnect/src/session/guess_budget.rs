//! How many sockets the bets of an endpoint may take, all together.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use p2pconnect_proto::{NatReport, PeerId};
use p2pconnect_punch::{PunchAgent, PunchConfig, ports_of_bets};

use crate::{machine::file_limit::files_allowed, session::holes::Holes};

/// The most connections that all bets of an endpoint have under way: all ports of the largest range that
/// is filled, or five batches of 640.
///
/// A carrier gives a subscriber 256 to 4,096 flows, and a peer that dials decides whether there is
/// a bet. A bet is over after some tenths of a second, as a rule, so whoever dials when too little is left is told to
/// begin anew.
const MAX_BETS: u32 = 3200;

/// The share of the open files that a process may have which bets leave to everything else.
const LEFT_TO_OTHERS: u64 = 2;

/// How many sets of holes there are for each peer. One that has been closed spoils its ports in some NATs for two
/// minutes, so the next set has others; more sets would leave a peer fewer ports that lead anywhere.
const HOLE_SETS: u32 = 4;

/// What the bets of an endpoint have taken.
#[derive(Debug)]
pub(crate) struct GuessBudget {
    taken: Mutex<Taken>,
    holes: Arc<Holes>,
    /// What nobody else knows of the holes that this endpoint opens.
    salt: [u8; 32],
}

#[derive(Debug, Default)]
struct Taken {
    count: u32,
    /// How much of that sessions have that go on, and not only what they have left open.
    in_sessions: u32,
    /// What the holes for a peer have taken: all sessions with it have the same.
    holes: BTreeMap<PeerId, Weak<ReservedSockets>>,
    /// Which set of holes is begun next, whoever the peer is.
    next_set: u32,
}

/// What an agent bets on.
#[derive(Debug, Clone, Copy)]
struct Placed {
    count: u32,
    are_holes: bool,
}

/// What one agent may bet with. Dropping it gives that back.
#[derive(Debug)]
pub(crate) struct ReservedSockets {
    guess_budget: Arc<GuessBudget>,
    count: u32,
    /// Which set of holes it is for.
    set: u32,
    /// How many sessions go on that have them. Changed while the budget is locked.
    sessions: AtomicU32,
}

/// The sockets that the agent of one session may use for guesses. The session is over when this is dropped.
#[derive(Debug)]
pub(crate) struct GuessReservation(Arc<ReservedSockets>);

impl GuessBudget {
    pub(crate) fn new(salt: [u8; 32]) -> Self {
        Self {
            taken: Mutex::default(),
            holes: Arc::default(),
            salt,
        }
    }

    /// Returns the holes that all bets share.
    pub(crate) fn holes(&self) -> Arc<Holes> {
        Arc::clone(&self.holes)
    }

    /// Tells whether others have taken so much that less than half is left of what a round behind a NAT of this kind may
    /// take, which is what it takes as a rule.
    pub(crate) fn lacks(&self, own: &NatReport) -> bool {
        self.lacks_within(ports_of_bets(own).into(), most(files_allowed()))
    }

    fn lacks_within(&self, wanted: u32, most: u32) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_sessions > 0 && most.saturating_sub(taken.count) < wanted / 2
    }

    /// Makes an agent whose bets are within what is left.
    pub(crate) fn place(
        self: &Arc<Self>,
        peer: PeerId,
        mut config: PunchConfig,
        make: impl FnOnce(PunchConfig) -> PunchAgent,
    ) -> (PunchAgent, GuessReservation) {
        self.place_within(peer, most(files_allowed()), |left, set| {
            config.max_bets = config.max_bets.min(left);
            config.hole_seed = Some(self.hole_seed(&peer, set));
            let agent = make(config);
            let placed = Placed {
                count: agent.bets(),
                are_holes: agent.opens_holes(),
            };
            (agent, placed)
        })
    }

    /// Makes something of what is left, with a set of holes, and takes as much of that as it says.
    fn place_within<T>(
        self: &Arc<Self>,
        peer: PeerId,
        most: u32,
        make: impl FnOnce(u32, u32) -> (T, Placed),
    ) -> (T, GuessReservation) {
        let mut guard = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = &mut *guard;
        taken.holes.retain(|_, stake| stake.strong_count() > 0);
        let shared = taken.holes.get(&peer).and_then(Weak::upgrade);
        let left = most.saturating_sub(taken.count);
        let set = shared.as_ref().map_or(taken.next_set, |it| it.set);
        let (made, placed) = make(shared.as_ref().map_or(left, |it| left.max(it.count)), set);
        let stake = match shared {
            Some(shared) if placed.are_holes && placed.count <= shared.count => shared,
            _ => {
                let count = placed.count.min(left);
                taken.count += count;
                let guess_budget = Arc::clone(self);
                Arc::new(ReservedSockets {
                    guess_budget,
                    count,
                    set,
                    sessions: AtomicU32::new(0),
                })
            }
        };
        if placed.are_holes {
            if set == taken.next_set {
                taken.next_set = (set + 1) % HOLE_SETS;
            }
            taken.holes.insert(peer, Arc::downgrade(&stake));
        }
        if stake.sessions.fetch_add(1, Ordering::Relaxed) == 0 {
            taken.in_sessions += stake.count;
        }
        drop(guard);
        (made, GuessReservation(stake))
    }

    /// Returns what the ports of a set of holes for a peer are drawn with.
    fn hole_seed(&self, peer: &PeerId, set: u32) -> [u8; 32] {
        let mut seed = self.salt;
        for (mixed, byte) in seed.iter_mut().zip(peer.as_bytes()) {
            *mixed ^= byte;
        }
        for (mixed, byte) in seed.iter_mut().zip(set.to_be_bytes()) {
            *mixed ^= byte;
        }
        seed
    }
}

impl GuessReservation {
    /// Ends with the session, and returns the sockets, for what the session leaves open.
    pub(crate) fn left_open(self) -> Arc<ReservedSockets> {
        Arc::clone(&self.0)
    }
}

impl Drop for GuessReservation {
    fn drop(&mut self) {
        let taken = self.0.guess_budget.taken.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        if self.0.sessions.fetch_sub(1, Ordering::Relaxed) == 1 {
            taken.in_sessions -= self.0.count;
        }
    }
}

impl Drop for ReservedSockets {
    fn drop(&mut self) {
        let taken = self.guess_budget.taken.lock();
        taken.unwrap_or_else(PoisonError::into_inner).count -= self.count;
    }
}

/// Returns how many connections are within reason for a process that may have so many files open.
fn most(files: u64) -> u32 {
    let share = u32::try_from(files / LEFT_TO_OTHERS).unwrap_or(u32::MAX);
    share.min(MAX_BETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bets_share_what_there_is() {
        let bets = Arc::new(GuessBudget::new([0; 32]));
        let peer = PeerId::from_public_key([1; 32]);
        let place = |wanted: u32| {
            bets.place_within(peer, 1000, |left, _| {
                let count = wanted.min(left);
                let are_holes = false;
                (left, Placed { count, are_holes })
            })
        };
        let (left, first) = place(640);
        assert_eq!(left, 1000);
        let (left, second) = place(640);
        assert_eq!(left, 360);
        let (left, third) = place(640);
        assert_eq!(left, 0);
        drop((second, third));
        assert_eq!(place(0).0, 360);
        drop(first);
        assert_eq!(place(0).0, 1000);
    }

    #[test]
    fn whoever_finds_too_little_left_waits_for_others() {
        let bets = Arc::new(GuessBudget::new([0; 32]));
        let peer = PeerId::from_public_key([1; 32]);
        let place = |count: u32| {
            let placed = Placed {
                count,
                are_holes: false,
            };
            bets.place_within(peer, 1000, |_, _| ((), placed)).1
        };
        // What nobody has taken is all that there will ever be.
        assert!(!bets.lacks_within(3200, 1000));
        let first = place(300);
        assert!(!bets.lacks_within(1280, 1000));
        let second = place(100);
        assert!(bets.lacks_within(1280, 1000));
        assert!(!bets.lacks_within(0, 1000), "it needs none");
        // What sessions leave open goes to nobody else, and is no reason to begin anew: nobody is in the way.
        let open = [first, second].map(GuessReservation::left_open);
        assert!(!bets.lacks_within(1280, 1000));
        let third = place(0);
        assert!(!bets.lacks_within(1280, 1000));
        drop(third);
        let _fourth = place(1);
        assert!(bets.lacks_within(1280, 1000));
        drop(open);
        assert!(!bets.lacks_within(1280, 1000));
    }

    #[test]
    fn the_holes_for_one_peer_are_counted_once() {
        let bets = Arc::new(GuessBudget::new([0; 32]));
        let place = |peer: u8| {
            let peer = PeerId::from_public_key([peer; 32]);
            bets.place_within(peer, 1000, |left, _| {
                let count = left.min(640);
                let are_holes = true;
                (count, Placed { count, are_holes })
            })
        };
        let (count, first) = place(1);
        assert_eq!(count, 640);
        let (count, second) = place(1);
        assert_eq!(count, 640);
        let (count, other) = place(2);
        assert_eq!(count, 360);
        drop(first);
        assert_eq!(place(3).0, 0);
        drop((second, other));
        assert_eq!(place(3).0, 640);
    }

    #[test]
    fn holes_that_are_closed_are_followed_by_others() {
        let bets = Arc::new(GuessBudget::new([0; 32]));
        let peer = PeerId::from_public_key([1; 32]);
        let place = || {
            bets.place_within(peer, 1000, |_, set| {
                let (count, are_holes) = (1, true);
                (set, Placed { count, are_holes })
            })
        };
        let (first, stake) = place();
        // They are open.
        assert_eq!(place().0, first);
        drop(stake);
        let others: Vec<_> = (1..HOLE_SETS).map(|_| place().0).collect();
        assert!(!others.contains(&first));
        assert_eq!(place().0, first);
        let [one, other] = [0, 1].map(|set| bets.hole_seed(&peer, set));
        assert_ne!(one, other);
    }

    #[test]
    fn half_of_the_files_are_left_to_others() {
        assert_eq!((most(1024), most(0)), (512, 0));
        assert_eq!((most(20_000), most(u64::MAX)), (MAX_BETS, MAX_BETS));
    }
}
