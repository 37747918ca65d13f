//! Who may have how many sockets at a time, of all that the process may have.

use std::sync::{Condvar, Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};

use super::Kind;
use crate::oracle::{Endpoint, Outside};

/// What a lab and two peers need whose endpoints a server has seen.
const PLAIN: u64 = 128;

/// The same where ports must be guessed: 640 sockets of one side, and two batches of 640 of the
/// other.
const GUESSING: u64 = 2048;

/// What the rest of the process may need.
const OTHERS: u64 = 512;

/// Files that are not in use.
#[derive(Debug)]
pub(super) struct Files {
    free: Mutex<u64>,
    returned: Condvar,
}

impl Files {
    /// Counts what the hard limit allows, to which a contender raises the soft one.
    pub(super) fn new() -> Self {
        let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        Self::of(limit)
    }

    /// Whatever the limit is, one pair can be run at a time.
    fn of(limit: u64) -> Self {
        Self {
            free: Mutex::new(limit.saturating_sub(OTHERS).max(GUESSING)),
            returned: Condvar::new(),
        }
    }

    /// Does something once there are as many files as the pair may need.
    pub(super) fn with<T>(&self, kinds: [&Kind; 2], work: impl FnOnce() -> T) -> T {
        let needed = needed(kinds);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = self.returned.wait_while(free, |free| *free < needed);
        *enough.unwrap_or_else(PoisonError::into_inner) -= needed;
        let result = work();
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += needed;
        self.returned.notify_all();
        result
    }
}

fn needed(kinds: [&Kind; 2]) -> u64 {
    let is_random = |kind: &Kind| matches!(Outside::of(&kind.chain).endpoint, Endpoint::Random(_));
    if kinds.into_iter().any(is_random) {
        GUESSING
    } else {
        PLAIN
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use super::*;
    use crate::preset;

    #[test]
    fn no_more_guess_at_a_time_than_the_limit_allows() {
        let kind = preset::find("mobile-carrier").map(Kind::from);
        let kind = kind.expect("there is such a preset");
        let files = Files::of(OTHERS + 2 * GUESSING);
        let (busy, most) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    files.with([&kind, &kind], || {
                        let now = busy.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        busy.fetch_sub(1, Ordering::SeqCst);
                    });
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 2);
        let left = *files.free.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(left, 2 * GUESSING);
    }
}
