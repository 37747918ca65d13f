//! When a lost connection is made again.

use std::time::Duration;

/// When to reconnect: at once, then after a delay that doubles up to a limit.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    stable_after: Duration,
    attempts: u32,
}

impl Backoff {
    pub(super) const fn new(min: Duration, max: Duration, stable_after: Duration) -> Self {
        Self {
            min,
            max,
            stable_after,
            attempts: 0,
        }
    }

    /// Notes that a connection ended after `lived`.
    pub(super) fn lost_after(&mut self, lived: Duration) {
        if lived >= self.stable_after {
            self.attempts = 0;
        }
    }

    /// Returns how long to wait before the next attempt. `random` spreads the clients that lost
    /// the same server at the same moment over half of the delay.
    pub(super) fn next_delay(&mut self, random: f64) -> Duration {
        let delay = match self.attempts.checked_sub(1) {
            None => Duration::ZERO,
            // 31 doublings are beyond any limit and still fit.
            Some(doublings) => self
                .min
                .saturating_mul(1 << doublings.min(31))
                .min(self.max),
        };
        self.attempts = self.attempts.saturating_add(1);
        delay / 2 + (delay / 2).mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn backoff() -> Backoff {
        Backoff::new(seconds(1), seconds(15), seconds(30))
    }

    #[test]
    fn the_first_attempt_is_immediate_and_later_ones_double_up_to_the_limit() {
        let mut backoff = backoff();
        let delays: Vec<_> = (0..7).map(|_| backoff.next_delay(1.0)).collect();
        assert_eq!(delays, [0, 1, 2, 4, 8, 15, 15].map(seconds));
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let mut backoff = backoff();
        backoff.next_delay(0.0);
        assert_eq!(backoff.next_delay(0.0), Duration::from_millis(500));
    }

    #[test]
    fn only_a_connection_that_lasted_starts_anew() {
        let mut backoff = backoff();
        backoff.next_delay(0.0);
        backoff.lost_after(seconds(3));
        assert_eq!(backoff.next_delay(1.0), seconds(1));
        backoff.lost_after(seconds(60));
        assert_eq!(backoff.next_delay(1.0), Duration::ZERO);
    }

    #[test]
    fn any_number_of_attempts_stays_within_the_limit() {
        let mut backoff = backoff();
        backoff.attempts = u32::MAX;
        assert_eq!(backoff.next_delay(1.0), seconds(15));
    }
}
