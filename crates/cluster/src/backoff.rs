//! How long to wait before the next attempt to reach a server.

use std::time::Duration;

/// The longest time before the second attempt.
const FIRST: Duration = Duration::from_millis(100);

/// The longest time before any attempt.
const LONGEST: Duration = Duration::from_secs(5);

/// Returns how long to wait before an attempt: the first one, number 1, is made at once, since
/// other servers of the cluster are there when one is killed. Later ones wait for a random time, of
/// twice as long at most each time, so that coordinators that lose a server together do not come
/// back together.
pub(crate) fn before(attempt: usize) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    longest_before(attempt).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn longest_before(attempt: usize) -> Duration {
    let Some(doublings) = attempt.checked_sub(2) else {
        return Duration::ZERO;
    };
    let factor = 1_u32 << doublings.min(10);
    FIRST.saturating_mul(factor).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_made_at_once_and_later_ones_wait_longer_up_to_a_bound() {
        assert_eq!(before(0), Duration::ZERO);
        assert_eq!(before(1), Duration::ZERO);
        assert_eq!(longest_before(2), FIRST);
        assert_eq!(longest_before(3), 2 * FIRST);
        assert_eq!(longest_before(1000), LONGEST);
        for attempt in 2..20 {
            assert!(before(attempt) <= longest_before(attempt));
        }
    }

    #[test]
    fn those_who_wait_together_do_not_come_back_together() {
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| before(10)).collect();
        assert!(waits.len() > 1);
    }
}
