//! The common start: how long each side's message is held back so that both begin at one moment.

use std::time::Duration;

/// The longest that a message is held back so that both peers start together.
///
/// Half the difference of the round-trip times reaches this only when they differ by 3 s, which
/// is a broken measurement or a peer that wants to hold up others; no later start helps those,
/// and the peers redial anyway.
pub const MAX_DELAY: Duration = Duration::from_millis(1500);

/// Returns how long to hold back the dialler's and the callee's message so that both arrive at
/// the same moment, given the round-trip times to each.
///
/// That moment is half the longer round-trip time from now. Only the nearer peer's message waits.
#[must_use]
pub fn start_delays(rtt_dialler: Duration, rtt_callee: Duration) -> (Duration, Duration) {
    let dialler_waits = rtt_callee.saturating_sub(rtt_dialler) / 2;
    let callee_waits = rtt_dialler.saturating_sub(rtt_callee) / 2;
    (dialler_waits.min(MAX_DELAY), callee_waits.min(MAX_DELAY))
}

/// Returns the round-trip time between two peers by way of the coordinator in microseconds.
#[must_use]
pub fn rtt_via_coordinator_us(rtt_dialler: Duration, rtt_callee: Duration) -> u32 {
    u32::try_from(rtt_dialler.saturating_add(rtt_callee).as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn only_the_nearer_peer_waits() {
        for (dialler, callee, delays) in [
            (ms(40), ms(40), (ms(0), ms(0))),
            (ms(10), ms(50), (ms(20), ms(0))),
            (ms(50), ms(10), (ms(0), ms(20))),
            (ms(0), ms(3_000), (ms(1_500), ms(0))),
            (Duration::MAX, ms(0), (ms(0), MAX_DELAY)),
        ] {
            assert_eq!(
                start_delays(dialler, callee),
                delays,
                "{dialler:?} {callee:?}"
            );
        }
    }

    #[test]
    fn messages_arrive_together() {
        let (dialler, callee) = (ms(31), ms(84));
        let (dialler_waits, callee_waits) = start_delays(dialler, callee);
        assert_eq!(dialler_waits + dialler / 2, callee_waits + callee / 2);
    }

    #[test]
    fn the_relayed_round_trip_is_the_sum() {
        assert_eq!(rtt_via_coordinator_us(ms(40), ms(2)), 42_000);
        assert_eq!(rtt_via_coordinator_us(Duration::MAX, ms(1)), u32::MAX);
    }
}
