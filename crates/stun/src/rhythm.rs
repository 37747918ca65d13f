//! The moments at which everything of a process that keeps something alive does so.

use std::time::Duration;

use p2pconnect_host::Host;
use tokio::time::Instant;

/// Returns the next of the moments, `interval` apart, at which the programs of a host keep their
/// connections alive: later than now, by `interval` at most.
///
/// Whoever keeps something alive at these moments wakes an idle machine once for all of them.
#[must_use]
pub fn next_keepalive(host: &Host, interval: Duration) -> Instant {
    next_after(Instant::now(), host.began().into(), interval)
}

fn next_after(now: Instant, began: Instant, interval: Duration) -> Instant {
    let interval_ns = interval.as_nanos().max(1);
    let into = now.saturating_duration_since(began).as_nanos() % interval_ns;
    let left = u64::try_from(interval_ns - into).unwrap_or(u64::MAX);
    now + Duration::from_nanos(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_starts_when_meets_at_the_same_moments() {
        let began = Instant::now();
        let interval = Duration::from_secs(15);
        let at = |ms| began + Duration::from_millis(ms);
        for (now, next) in [
            (0, 15_000),
            (1, 15_000),
            (14_999, 15_000),
            (15_000, 30_000),
            (44_000, 45_000),
        ] {
            assert_eq!(next_after(at(now), began, interval), at(next));
        }
        let hour = Duration::from_secs(3600);
        let before = next_after(began, at(5), hour);
        assert_eq!(
            before,
            began + hour,
            "a clock that was behind waits no longer"
        );
    }
}
