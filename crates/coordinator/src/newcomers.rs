//! What is asked of those who come for the first time, where many do at once. Pure.

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use p2pconnect_proto::{
    MAX_PUZZLE_BITS, PeerId, Puzzle, Solution,
    message::{Extensions, Refusal, RefusalReason},
};
use sha2::Sha256;

use crate::{Limits, rate::RateLimiter};

/// How long a puzzle is given to those who come. Its solution counts as long again: a peer takes
/// seconds, and may come again for want of luck.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts those who come for the first time, and makes puzzles for those who are too many.
#[derive(Debug)]
pub(crate) struct Newcomers {
    key: [u8; 32],
    since: Instant,
    free: RateLimiter<()>,
    bits: u8,
}

impl Newcomers {
    /// Returns what makes puzzles with a key, and none until its limits are set.
    pub(crate) const fn new(key: [u8; 32], now: Instant) -> Self {
        Self {
            key,
            since: now,
            free: RateLimiter::new(0, Duration::ZERO),
            bits: 0,
        }
    }

    /// Sets how many may come without a puzzle, and how hard the puzzles are.
    pub(crate) fn set_limits(&mut self, limits: &Limits) {
        self.free
            .set(limits.newcomer_burst, limits.newcomer_interval);
        self.bits = limits.puzzle_bits.min(MAX_PUZZLE_BITS);
    }

    /// Tells whether a peer that comes for the first time is served. The refusal has a puzzle, and
    /// the time after which none may be needed.
    pub(crate) fn admit(
        &mut self,
        peer: &PeerId,
        request: &Extensions,
        now: Instant,
    ) -> Result<(), Refusal> {
        let periods = now.saturating_duration_since(self.since).as_secs() / PERIOD.as_secs();
        if let Some(solution) = Solution::of(request)
            && solution.solves(peer, self.bits)
        {
            let mut recent = periods.saturating_sub(1)..=periods;
            if recent.any(|it| self.challenge(peer, it) == solution.challenge) {
                return Ok(());
            }
        }
        self.free.take((), now).map_err(|wait| {
            let puzzle = Puzzle {
                bits: self.bits,
                challenge: self.challenge(peer, periods),
            };
            Refusal {
                extensions: Extensions(vec![puzzle.extension()]),
                ..Refusal::until(RefusalReason::TooMany, wait)
            }
        })
    }

    fn challenge(&self, peer: &PeerId, period: u64) -> [u8; 16] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(peer.as_bytes());
        mac.update(&period.to_be_bytes());
        let mac: [u8; 32] = mac.finalize().into_bytes().into();
        *mac.first_chunk().expect("it is longer")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(n: u8) -> PeerId {
        PeerId::from_public_key([n; 32])
    }

    fn crowded(now: Instant) -> Newcomers {
        let mut newcomers = Newcomers::new([7; 32], now);
        newcomers.set_limits(&limits(3, 6));
        newcomers
    }

    fn limits(burst: u32, bits: u8) -> Limits {
        Limits {
            newcomer_burst: burst,
            newcomer_interval: SECOND,
            puzzle_bits: bits,
            ..Limits::default()
        }
    }

    fn admits(newcomers: &mut Newcomers, n: u8, now: Instant) -> bool {
        let request = Extensions::default();
        newcomers.admit(&peer(n), &request, now).is_ok()
    }

    #[test]
    fn a_few_come_for_nothing_and_others_work_or_wait() {
        let start = Instant::now();
        let mut newcomers = crowded(start);
        let came = (0..10)
            .filter(|n| admits(&mut newcomers, *n, start))
            .count();
        assert_eq!(came, 3);
        let nothing = Extensions::default();
        let refusal = newcomers.admit(&peer(9), &nothing, start).unwrap_err();
        assert_eq!(refusal.retry_after(), Some(SECOND));
        let puzzle = Puzzle::of(&refusal.extensions).unwrap();
        let solution = puzzle.solve(&peer(9), || true).unwrap();
        let solved = Extensions(vec![solution.extension()]);
        assert_eq!(newcomers.admit(&peer(9), &solved, start), Ok(()));
        assert!(newcomers.admit(&peer(8), &solved, start).is_err());
        assert!(admits(&mut newcomers, 8, start + SECOND));
    }

    #[test]
    fn a_solution_counts_for_a_minute_or_two() {
        let start = Instant::now();
        let mut newcomers = crowded(start);
        newcomers.set_limits(&limits(0, 6));
        let nothing = Extensions::default();
        let asked = start + SECOND * 59;
        let refusal = newcomers.admit(&peer(1), &nothing, asked).unwrap_err();
        let puzzle = Puzzle::of(&refusal.extensions).unwrap();
        let solved = Extensions(vec![puzzle.solve(&peer(1), || true).unwrap().extension()]);
        assert!(newcomers.admit(&peer(1), &solved, asked + PERIOD).is_ok());
        assert!(
            newcomers
                .admit(&peer(1), &solved, asked + PERIOD * 2)
                .is_err()
        );
        // What was easy is not enough where it has become harder.
        newcomers.set_limits(&limits(0, MAX_PUZZLE_BITS));
        assert!(newcomers.admit(&peer(1), &solved, asked).is_err());
    }
}
