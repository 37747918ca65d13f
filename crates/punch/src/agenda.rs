//! Which pairs are waiting for what, so that nobody has to look through all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    CheckId,
    pair::{CheckState, DialledBy, Ending, Pair, PairId},
    schedule::patience,
};

/// The pairs of a checklist by what they are waiting for.
///
/// Guessing takes hundreds of pairs, and each answer to one of them asks what is due next.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    due: BTreeSet<(Instant, PairId)>,
    /// Hedges by the address that they lead to: they wait for more than their own moment.
    hedges: BTreeMap<IpAddr, Hedges>,
    attempts: BTreeMap<CheckId, PairId>,
    running: BTreeSet<(Instant, PairId)>,
    unreachable: usize,
}

#[derive(Debug, Default)]
struct Hedges {
    /// When each is due, and its stage.
    due: BTreeSet<(Instant, u32, PairId)>,
    /// How much later than planned the peer starts, at least, as the answers from there tell.
    lateness: Duration,
}

impl Agenda {
    /// Notes what a pair waits for now.
    pub(crate) fn enter(&mut self, id: PairId, pair: &Pair) {
        match pair.state() {
            CheckState::Waiting { due } if pair.is_unused_hedge() => {
                self.hedges_to(pair).due.insert((due, pair.stage, id));
            }
            CheckState::Waiting { due } | CheckState::AwaitingAccept { until: due } => {
                self.due.insert((due, id));
            }
            CheckState::InProgress { check, since } => {
                self.attempts.insert(check, id);
                self.running.insert((since, id));
                if let DialledBy::PeerAfter(silence) = pair.dialled_by {
                    self.due.insert((since + silence, id));
                }
            }
            CheckState::Ended(Ending::NoRoute | Ending::Impostor) => {
                self.unreachable += usize::from(pair.dialled_by != DialledBy::Peer);
            }
            CheckState::Open | CheckState::Ended(Ending::Exhausted | Ending::Passive) => {}
        }
    }

    /// Forgets what a pair waited for, before anything of the pair is changed.
    pub(crate) fn leave(&mut self, id: PairId, pair: &Pair) {
        match pair.state() {
            CheckState::Waiting { due } if pair.is_unused_hedge() => {
                self.hedges_to(pair).due.remove(&(due, pair.stage, id));
            }
            CheckState::Waiting { due } | CheckState::AwaitingAccept { until: due } => {
                self.due.remove(&(due, id));
            }
            CheckState::InProgress { check, since } => {
                self.attempts.remove(&check);
                self.running.remove(&(since, id));
                if let DialledBy::PeerAfter(silence) = pair.dialled_by {
                    self.due.remove(&(since + silence, id));
                }
            }
            CheckState::Ended(Ending::NoRoute | Ending::Impostor) => {
                self.unreachable -= usize::from(pair.dialled_by != DialledBy::Peer);
            }
            CheckState::Open | CheckState::Ended(Ending::Exhausted | Ending::Passive) => {}
        }
    }

    /// Notes that the peer starts later than planned, at least by so much, on the network path of
    /// a pair.
    pub(crate) fn note_lateness(&mut self, pair: &Pair, lateness: Duration) {
        let hedges = self.hedges_to(pair);
        hedges.lateness = hedges.lateness.max(lateness);
    }

    /// Returns the pair to dial next, or to leave to the peer, and when, where no hedge to an
    /// address is to start before `promising`.
    pub(crate) fn next(
        &self,
        promising: impl Fn(IpAddr) -> Option<Instant>,
    ) -> Option<(Instant, PairId)> {
        let hedges = self.hedges.iter().filter_map(|(remote, hedges)| {
            let (due, stage, id) = hedges.due.first()?;
            let due = *due + hedges.lateness.min(patience(*stage));
            // A hedge is for when nothing has opened; it must not disturb what has.
            Some((promising(*remote).map_or(due, |until| due.max(until)), *id))
        });
        hedges.chain(self.due.first().copied()).min()
    }

    /// Returns the pair whose attempt is `check`.
    pub(crate) fn attempt(&self, check: CheckId) -> Option<PairId> {
        self.attempts.get(&check).copied()
    }

    /// Returns when the youngest of the attempts under way began.
    pub(crate) fn youngest(&self) -> Option<Instant> {
        self.running.last().map(|(since, _)| *since)
    }

    /// Returns how many of the pairs that are dialled nothing can be sent on.
    pub(crate) const fn unreachable(&self) -> usize {
        self.unreachable
    }

    fn hedges_to(&mut self, pair: &Pair) -> &mut Hedges {
        self.hedges.entry(pair.pair.remote.ip()).or_default()
    }
}
