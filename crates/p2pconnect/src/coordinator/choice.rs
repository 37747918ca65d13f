//! Which of several coordinators an endpoint keeps connections to, and which of them it prefers.
//!
//! Told what happens and when, it says what to do; it knows no connection.

use std::time::{Duration, Instant};

/// To how many an endpoint is connected for good: the one that it prefers, and one in reserve.
const KEPT: usize = 2;

/// A connection that has lasted for so long is one that lasts.
const SETTLED: Duration = Duration::from_secs(10);

/// By how much the handshake with another has to be shorter for it to be preferred from then on,
/// and by a quarter: what differs by less is chance.
const NEARER: Duration = Duration::from_millis(10);

/// What is known of several coordinators. Each has the number of its place in the list.
#[derive(Debug)]
pub(crate) struct Choice {
    sides: Vec<Side>,
    preferred: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Side {
    /// Whether another coordinator has named it, and not the user.
    is_guest: bool,
    /// How long its last handshake took.
    handshake: Option<Duration>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// An attempt is under way, the first one for a while.
    Trying,
    /// The last attempt has failed, or the connection is lost.
    Failing,
    Up {
        since: Instant,
        /// Whether the coordinator is going to end.
        is_leaving: bool,
    },
}

/// What to do with several coordinators.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Those that there are connections to, the preferred one first and those last that are going
    /// to end.
    pub(crate) order: Vec<usize>,
    /// Which of all there should be connections to.
    pub(crate) wanted: Vec<bool>,
    /// Whether there may be a connection to another one soon.
    pub(crate) is_pending: bool,
    /// When to decide again, though nothing happens.
    pub(crate) again_at: Option<Instant>,
}

impl Side {
    const fn new(is_guest: bool) -> Self {
        Self {
            is_guest,
            handshake: None,
            state: State::Trying,
        }
    }

    const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    const fn is_leaving(&self) -> bool {
        let State::Up { is_leaving, .. } = self.state else {
            return false;
        };
        is_leaving
    }

    const fn is_staying(&self) -> bool {
        self.is_up() && !self.is_leaving()
    }

    fn settles_at(&self) -> Option<Instant> {
        match self.state {
            State::Up {
                since,
                is_leaving: false,
            } => Some(since + SETTLED),
            State::Up { .. } | State::Idle | State::Trying | State::Failing => None,
        }
    }

    fn is_settled(&self, now: Instant) -> bool {
        self.settles_at().is_some_and(|at| at <= now)
    }

    /// Those first that are better: the user's own, and the nearest.
    fn rank(&self) -> (bool, Duration) {
        (self.is_guest, self.handshake.unwrap_or(Duration::MAX))
    }

    /// Tells whether it is better than one that is preferred, by more than chance.
    fn outdoes(&self, preferred: &Self) -> bool {
        let (_, own) = self.rank();
        let (_, its) = preferred.rank();
        match (self.is_guest, preferred.is_guest) {
            (false, true) => true,
            (true, false) => false,
            (true, true) | (false, false) => own.saturating_add(NEARER.max(its / 4)) < its,
        }
    }
}

impl Choice {
    /// Returns the choice among so many coordinators of the user's, to all of which an attempt is
    /// under way.
    pub(crate) fn new(own: usize) -> Self {
        Self {
            sides: vec![Side::new(false); own],
            preferred: None,
        }
    }

    /// Takes in one that another coordinator has named, and returns its number.
    pub(crate) fn add_guest(&mut self) -> usize {
        self.sides.push(Side {
            state: State::Idle,
            ..Side::new(true)
        });
        self.sides.len() - 1
    }

    /// Takes in that an attempt is under way.
    pub(crate) fn tries(&mut self, index: usize) {
        self.set(index, State::Trying);
    }

    /// Takes in that an attempt has failed, or that the connection is lost.
    pub(crate) fn fails(&mut self, index: usize) {
        self.set(index, State::Failing);
    }

    /// Takes in that there is no connection, and that none is tried.
    pub(crate) fn rests(&mut self, index: usize) {
        self.set(index, State::Idle);
    }

    /// Takes in that there is a connection, whose handshake took so long.
    pub(crate) fn is_up(&mut self, index: usize, handshake: Duration, now: Instant) {
        let state = State::Up {
            since: now,
            is_leaving: false,
        };
        self.set(index, state);
        if let Some(side) = self.sides.get_mut(index) {
            side.handshake = Some(handshake);
        }
    }

    /// Takes in that a coordinator is going to end.
    pub(crate) fn leaves(&mut self, index: usize) {
        if let Some(Side {
            state: State::Up { is_leaving, .. },
            ..
        }) = self.sides.get_mut(index)
        {
            *is_leaving = true;
        }
    }

    fn set(&mut self, index: usize, state: State) {
        if let Some(side) = self.sides.get_mut(index) {
            side.state = state;
        }
    }

    /// Returns what to do now.
    pub(crate) fn decide(&mut self, now: Instant) -> Decision {
        self.preferred = self.prefer(now);
        let mut order: Vec<_> = (0..self.sides.len())
            .filter(|it| self.sides[*it].is_up())
            .collect();
        order.sort_by_key(|it| {
            let side = &self.sides[*it];
            let is_preferred = self.preferred == Some(*it);
            (side.is_leaving(), !is_preferred, side.rank(), *it)
        });
        let wanted = self.wanted(now);
        let coming = self.sides.iter().zip(&wanted);
        let is_pending = coming
            .clone()
            .any(|(side, is_wanted)| *is_wanted && side.state == State::Trying);
        let settling = self.sides.iter().filter_map(Side::settles_at);
        Decision {
            order,
            is_pending,
            again_at: settling.filter(|at| *at > now).min(),
            wanted,
        }
    }

    fn prefer(&self, now: Instant) -> Option<usize> {
        let staying = |it: &usize| self.sides[*it].is_staying();
        let all = || 0..self.sides.len();
        let nearest = |among: &dyn Fn(&usize) -> bool| {
            let mut those: Vec<_> = all().filter(|it| among(it)).collect();
            those.sort_by_key(|it| (self.sides[*it].rank(), *it));
            those.first().copied()
        };
        let Some(preferred) = self.preferred.filter(staying) else {
            return nearest(&staying).or_else(|| nearest(&|it| self.sides[*it].is_up()));
        };
        let settled = |it: &usize| self.sides[*it].is_settled(now);
        let better = nearest(&settled).filter(|it| self.sides[*it].outdoes(&self.sides[preferred]));
        Some(better.unwrap_or(preferred))
    }

    /// Connections are made to the best ones in turn, until so many of them last; to one that
    /// others have named only while none of the user's own lasts, and to the next of these where it
    /// fails.
    fn wanted(&self, now: Instant) -> Vec<bool> {
        let mut wanted: Vec<_> = self.sides.iter().map(Side::is_leaving).collect();
        let mut own: Vec<_> = (0..self.sides.len())
            .filter(|it| !self.sides[*it].is_guest)
            .collect();
        own.sort_by_key(|it| (self.sides[*it].rank(), *it));
        let mut lasting = 0;
        for index in own {
            if lasting < KEPT {
                wanted[index] = true;
            }
            lasting += usize::from(self.sides[index].is_settled(now));
        }
        let guests = || self.sides.iter().enumerate().filter(|(_, it)| it.is_guest);
        if lasting > 0 {
            return wanted;
        }
        if let Some((there, _)) = guests().find(|(_, it)| it.is_staying()) {
            wanted[there] = true;
            return wanted;
        }
        for (index, guest) in guests() {
            wanted[index] = true;
            if matches!(guest.state, State::Idle | State::Trying) {
                break;
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests;
