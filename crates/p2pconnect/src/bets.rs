//! How many sockets the bets of an endpoint may take, all together.

use std::sync::{Arc, Mutex, PoisonError};

use p2pconnect_punch::{PunchAgent, PunchConfig};

use crate::file_limit::files_allowed;

/// The most connections that all bets of an endpoint have under way: four batches of 640.
///
/// A carrier gives a subscriber 256 to 4,096 flows, and a peer that dials decides whether there is
/// a bet. Those that come when nothing is left find the peer in a later round: a bet is over after
/// some tenths of a second, as a rule.
const MAX_BETS: u32 = 2560;

/// The share of the open files that a process may have which bets leave to everything else.
const LEFT_TO_OTHERS: u64 = 2;

/// What the bets of an endpoint have taken.
#[derive(Debug, Default)]
pub(crate) struct Bets {
    taken: Mutex<u32>,
}

/// What one agent may bet with. Dropping it gives that back.
#[derive(Debug)]
pub(crate) struct Stake {
    bets: Arc<Bets>,
    count: u32,
}

impl Bets {
    /// Makes an agent whose bets are within what is left.
    pub(crate) fn place(
        self: &Arc<Self>,
        mut config: PunchConfig,
        make: impl FnOnce(PunchConfig) -> PunchAgent,
    ) -> (PunchAgent, Stake) {
        self.place_within(most(files_allowed()), |left| {
            config.max_bets = config.max_bets.min(left);
            let agent = make(config);
            let count = agent.bets();
            (agent, count)
        })
    }

    /// Makes something of what is left, and takes as much of that as it says.
    fn place_within<T>(
        self: &Arc<Self>,
        most: u32,
        make: impl FnOnce(u32) -> (T, u32),
    ) -> (T, Stake) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (made, count) = make(most.saturating_sub(*taken));
        *taken += count;
        let bets = Arc::clone(self);
        (made, Stake { bets, count })
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        let taken = self.bets.taken.lock();
        *taken.unwrap_or_else(PoisonError::into_inner) -= self.count;
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
        let bets = Arc::new(Bets::default());
        let place = |wanted: u32| bets.place_within(1000, |left| (left, wanted.min(left)));
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
    fn half_of_the_files_are_left_to_others() {
        assert_eq!((most(1024), most(0)), (512, 0));
        assert_eq!((most(20_000), most(u64::MAX)), (MAX_BETS, MAX_BETS));
    }
}
