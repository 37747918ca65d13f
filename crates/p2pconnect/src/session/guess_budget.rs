//! Limits how many sockets all sessions of an endpoint may use for guessed ports.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use p2pconnect_host::Host;
use p2pconnect_proto::{NatReport, PeerId};
use p2pconnect_punch::{PunchAgent, PunchConfig, guessed_ports};

use crate::{session::holes::Holes, sync::lock};

/// The most connections between guessed ports that an endpoint has under way: all ports of the
/// largest range that is filled, or five batches of 640.
///
/// A carrier gives a subscriber 256 to 4,096 flows, and a peer that dials decides whether ports are
/// guessed. Guessing is over after some tenths of a second, as a rule, so whoever dials when too
/// little is left is told to begin anew.
const MAX_GUESSES: u32 = 3200;

/// Guesses take one part in so many of the files that the process may have open, and leave the rest
/// to everything else.
const LEFT_TO_OTHERS: u64 = 2;

/// How many sets of holes there are for each peer. One that has been closed spoils its ports in
/// some NATs for two minutes, so the next set has others; more sets would leave a peer fewer ports
/// that lead anywhere.
const HOLE_SETS: u32 = 4;

/// The sockets that an endpoint may use for guessed ports, and who has reserved some.
#[derive(Debug)]
pub(crate) struct GuessBudget {
    host: Host,
    reserved: Mutex<Reserved>,
    holes: Arc<Holes>,
    /// What nobody else knows of the holes that this endpoint opens.
    salt: [u8; 32],
}

#[derive(Debug, Default)]
struct Reserved {
    count: u32,
    /// How many of these are reserved by sessions that go on, and not left open by former ones.
    in_sessions: u32,
    /// The reservation for the holes to a peer, which all sessions with that peer share.
    holes: BTreeMap<PeerId, Weak<ReservedSockets>>,
    /// Which set of holes is opened next, whoever the peer is.
    next_set: u32,
}

/// How many connections an agent makes between guessed ports, and whether they are holes.
#[derive(Debug, Clone, Copy)]
struct GuessCount {
    count: u32,
    are_holes: bool,
}

/// Sockets that are reserved for guesses. They are free again when this is dropped.
#[derive(Debug)]
pub(crate) struct ReservedSockets {
    guess_budget: Arc<GuessBudget>,
    count: u32,
    /// Which set of holes it is for.
    set: u32,
    /// How many sessions go on that use them. Changed while the budget is locked.
    sessions: AtomicU32,
}

/// The sockets that the agent of one session may use for guesses. The session is over when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct GuessReservation(Arc<ReservedSockets>);

impl GuessBudget {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            reserved: Mutex::default(),
            salt: host.random_seed(),
            holes: Arc::new(Holes::new(host.clone())),
            host,
        }
    }

    /// Returns the holes that all guesses share.
    pub(crate) fn holes(&self) -> Arc<Holes> {
        Arc::clone(&self.holes)
    }

    /// Returns whether others have reserved so many sockets that less than half are left of what a
    /// round behind a NAT of this kind may take, which is what it takes as a rule.
    pub(crate) fn lacks(&self, own: &NatReport) -> bool {
        self.lacks_within(guessed_ports(own).into(), most(self.host.files_allowed()))
    }

    fn lacks_within(&self, wanted: u32, most: u32) -> bool {
        let reserved = lock(&self.reserved);
        reserved.in_sessions > 0 && most.saturating_sub(reserved.count) < wanted / 2
    }

    /// Makes an agent that guesses no more ports than the budget has left, and reserves the sockets
    /// for them.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        peer: PeerId,
        mut config: PunchConfig,
        make: impl FnOnce(PunchConfig) -> PunchAgent,
    ) -> (PunchAgent, GuessReservation) {
        self.reserve_within(peer, most(self.host.files_allowed()), |left, set| {
            config.max_guesses = config.max_guesses.min(left);
            config.hole_seed = Some(self.hole_seed(&peer, set));
            let agent = make(config);
            let guesses = GuessCount {
                count: agent.guesses(),
                are_holes: agent.opens_holes(),
            };
            (agent, guesses)
        })
    }

    /// Reserves what `make` says that it needs, given how many sockets are left and which set of
    /// holes is next.
    fn reserve_within<T>(
        self: &Arc<Self>,
        peer: PeerId,
        most: u32,
        make: impl FnOnce(u32, u32) -> (T, GuessCount),
    ) -> (T, GuessReservation) {
        let mut guard = lock(&self.reserved);
        let reserved = &mut *guard;
        reserved
            .holes
            .retain(|_, reservation| reservation.strong_count() > 0);
        let shared = reserved.holes.get(&peer).and_then(Weak::upgrade);
        let left = most.saturating_sub(reserved.count);
        let set = shared.as_ref().map_or(reserved.next_set, |it| it.set);
        let (made, guesses) = make(shared.as_ref().map_or(left, |it| left.max(it.count)), set);
        let reservation = match shared {
            Some(shared) if guesses.are_holes && guesses.count <= shared.count => shared,
            _ => {
                let count = guesses.count.min(left);
                reserved.count += count;
                let guess_budget = Arc::clone(self);
                Arc::new(ReservedSockets {
                    guess_budget,
                    count,
                    set,
                    sessions: AtomicU32::new(0),
                })
            }
        };
        if guesses.are_holes {
            if set == reserved.next_set {
                reserved.next_set = (set + 1) % HOLE_SETS;
            }
            reserved.holes.insert(peer, Arc::downgrade(&reservation));
        }
        if reservation.sessions.fetch_add(1, Ordering::Relaxed) == 0 {
            reserved.in_sessions += reservation.count;
        }
        drop(guard);
        (made, GuessReservation(reservation))
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
        let mut reserved = lock(&self.0.guess_budget.reserved);
        if self.0.sessions.fetch_sub(1, Ordering::Relaxed) == 1 {
            reserved.in_sessions -= self.0.count;
        }
    }
}

impl Drop for ReservedSockets {
    fn drop(&mut self) {
        lock(&self.guess_budget.reserved).count -= self.count;
    }
}

/// Returns how many connections are within reason for a process that may have so many files open.
fn most(files: u64) -> u32 {
    let share = u32::try_from(files / LEFT_TO_OTHERS).unwrap_or(u32::MAX);
    share.min(MAX_GUESSES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_share_the_budget() {
        let budget = Arc::new(GuessBudget::new(Host::default()));
        let peer = PeerId::from_public_key([1; 32]);
        let reserve = |wanted: u32| {
            budget.reserve_within(peer, 1000, |left, _| {
                let count = wanted.min(left);
                let are_holes = false;
                (left, GuessCount { count, are_holes })
            })
        };
        let (left, first) = reserve(640);
        assert_eq!(left, 1000);
        let (left, second) = reserve(640);
        assert_eq!(left, 360);
        let (left, third) = reserve(640);
        assert_eq!(left, 0);
        drop((second, third));
        assert_eq!(reserve(0).0, 360);
        drop(first);
        assert_eq!(reserve(0).0, 1000);
    }

    #[test]
    fn whoever_finds_too_little_left_waits_for_others() {
        let budget = Arc::new(GuessBudget::new(Host::default()));
        let peer = PeerId::from_public_key([1; 32]);
        let reserve = |count: u32| {
            let guesses = GuessCount {
                count,
                are_holes: false,
            };
            budget.reserve_within(peer, 1000, |_, _| ((), guesses)).1
        };
        // What nobody has taken is all that there will ever be.
        assert!(!budget.lacks_within(3200, 1000));
        let first = reserve(300);
        assert!(!budget.lacks_within(1280, 1000));
        let second = reserve(100);
        assert!(budget.lacks_within(1280, 1000));
        assert!(!budget.lacks_within(0, 1000), "it needs none");
        // What sessions leave open goes to nobody else, and is no reason to begin anew: nobody is
        // in the way.
        let open = [first, second].map(GuessReservation::left_open);
        assert!(!budget.lacks_within(1280, 1000));
        let third = reserve(0);
        assert!(!budget.lacks_within(1280, 1000));
        drop(third);
        let _fourth = reserve(1);
        assert!(budget.lacks_within(1280, 1000));
        drop(open);
        assert!(!budget.lacks_within(1280, 1000));
    }

    #[test]
    fn the_holes_for_one_peer_are_counted_once() {
        let budget = Arc::new(GuessBudget::new(Host::default()));
        let reserve = |peer: u8| {
            let peer = PeerId::from_public_key([peer; 32]);
            budget.reserve_within(peer, 1000, |left, _| {
                let count = left.min(640);
                let are_holes = true;
                (count, GuessCount { count, are_holes })
            })
        };
        let (count, first) = reserve(1);
        assert_eq!(count, 640);
        let (count, second) = reserve(1);
        assert_eq!(count, 640);
        let (count, other) = reserve(2);
        assert_eq!(count, 360);
        drop(first);
        assert_eq!(reserve(3).0, 0);
        drop((second, other));
        assert_eq!(reserve(3).0, 640);
    }

    #[test]
    fn holes_that_are_closed_are_followed_by_others() {
        let budget = Arc::new(GuessBudget::new(Host::default()));
        let peer = PeerId::from_public_key([1; 32]);
        let reserve = || {
            budget.reserve_within(peer, 1000, |_, set| {
                let (count, are_holes) = (1, true);
                (set, GuessCount { count, are_holes })
            })
        };
        let (first, reservation) = reserve();
        // They are open.
        assert_eq!(reserve().0, first);
        drop(reservation);
        let others: Vec<_> = (1..HOLE_SETS).map(|_| reserve().0).collect();
        assert!(!others.contains(&first));
        assert_eq!(reserve().0, first);
        let [one, other] = [0, 1].map(|set| budget.hole_seed(&peer, set));
        assert_ne!(one, other);
    }

    #[test]
    fn half_of_the_files_are_left_to_others() {
        assert_eq!((most(1024), most(0)), (512, 0));
        assert_eq!((most(20_000), most(u64::MAX)), (MAX_GUESSES, MAX_GUESSES));
    }
}
