//! Makes a failing schedule as small as it goes on failing.

use p2pconnect_tests::kinds::{DROPS, PUBLIC};

use crate::{
    checks::Broken,
    play::play,
    schedule::{Peer, Policy, Schedule, Step},
};

/// The delay that makes a peer no other than most.
const USUAL_DELAY_MS: u64 = 20;

/// The most runs that are made for it.
const MAX_RUNS: usize = 400;

/// Returns a schedule that breaks the same invariant, with steps that all matter to it.
pub(crate) fn shrink(schedule: &Schedule, broken: Broken) -> Schedule {
    let mut shrinker = Shrinker {
        seed: schedule.seed,
        least: schedule.clone(),
        broken,
        runs: 0,
    };
    let mut size = shrinker.least.steps.len();
    while size > 0 {
        let has_shrunk = shrinker.drop_steps(size);
        size = match (has_shrunk, size) {
            (true, _) => shrinker.least.steps.len().div_ceil(2).min(size),
            (false, 1) => 0,
            (false, _) => size / 2,
        };
    }
    shrinker.drop_peers();
    shrinker.make_peers_plain();
    shrinker.least
}

struct Shrinker {
    seed: u64,
    least: Schedule,
    broken: Broken,
    runs: usize,
}

impl Shrinker {
    /// Keeps a schedule if it fails in the same way, and returns whether it does.
    fn keeps(&mut self, schedule: Schedule) -> bool {
        if self.runs >= MAX_RUNS {
            return false;
        }
        self.runs += 1;
        let outcome = play(&schedule, false);
        let fails = outcome.violations.iter().any(|it| it.what == self.broken);
        if fails {
            self.least = schedule;
        }
        fails
    }

    /// Leaves out so many steps at once wherever that is possible, and returns whether it was.
    fn drop_steps(&mut self, size: usize) -> bool {
        let mut has_shrunk = false;
        let mut at = 0;
        while at < self.least.steps.len() {
            let mut steps = self.least.steps.clone();
            steps.drain(at..(at + size).min(steps.len()));
            if self.keeps(self.with(&steps)) {
                has_shrunk = true;
            } else {
                at += size;
            }
        }
        has_shrunk
    }

    /// Leaves out the last peers as long as no step is about them.
    fn drop_peers(&mut self) {
        while self.least.peers.len() > 2 {
            let last = self.least.peers.len() - 1;
            let mut fewer = self.least.clone();
            fewer.peers.pop();
            if fewer.steps.iter().any(|step| step.what.is_about(last)) || !self.keeps(fewer) {
                return;
            }
        }
    }

    /// Gives each peer as much as possible of what is usual.
    fn make_peers_plain(&mut self) {
        let changes: [fn(&mut Peer); 4] = [
            |peer| peer.nat = PUBLIC.column,
            |peer| peer.nat = DROPS.column,
            |peer| peer.delay_ms = USUAL_DELAY_MS,
            |peer| peer.policy = Policy::Anyone,
        ];
        for number in 0..self.least.peers.len() {
            for change in changes {
                let mut plainer = self.least.clone();
                let peer = &mut plainer.peers[number];
                let is_public = peer.nat == PUBLIC.column;
                change(peer);
                let is_less_plain = is_public && peer.nat != PUBLIC.column;
                if plainer != self.least && !is_less_plain {
                    self.keeps(plainer);
                }
            }
        }
    }

    fn with(&self, steps: &[Step]) -> Schedule {
        Schedule::of(self.seed, &self.least.peers, steps)
    }
}
