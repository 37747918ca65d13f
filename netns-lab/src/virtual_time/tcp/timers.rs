//! When a connection has to do something by itself.

use std::time::Duration;

/// Waits after each SYN, in seconds. Linux since 6.5 waits five times one second
/// (`tcp_syn_linear_timeouts` 4), then doubles until it has sent `tcp_syn_retries` (6) more: the
/// last SYN leaves after 67 s, the end is at 131 s.
const SYN_WAITS: [u64; 11] = [1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 64];

/// How often a listener's SYN-ACK is repeated (`tcp_synack_retries`), and one that
/// answers a crossing SYN (`tcp_syn_retries`).
const SYN_ACK_REPETITIONS: u32 = 5;
const CROSSING_REPETITIONS: u32 = 6;

/// The retransmission timeout before anything is known, and its bounds (Linux's
/// `TCP_TIMEOUT_INIT`, `TCP_RTO_MIN`, `TCP_RTO_MAX`).
const INITIAL_RTO: Duration = Duration::from_secs(1);
const MIN_RTO: Duration = Duration::from_millis(200);
const MAX_RTO: Duration = Duration::from_secs(120);

/// For how long data is repeated: as long as 15 repetitions (`tcp_retries2`) of the least timeout
/// take, and 8 (`tcp_orphan_retries`) of a connection that its program has closed.
pub(super) const DATA_LIFETIME: Duration = Duration::from_millis(924_600);
pub(super) const ORPHAN_LIFETIME: Duration = Duration::from_millis(102_200);

/// What more than the least round trip time tells of packets that wait on the way.
const LEAST_WAIT: Duration = Duration::from_millis(4);
const MOST_WAIT: Duration = Duration::from_millis(16);

/// The round trip time, as Linux estimates it (RFC 6298 with a lower bound for the
/// variation).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoundTrip {
    /// The mean and the mean deviation, once something has been measured.
    smoothed: Option<(Duration, Duration)>,
    least: Option<Duration>,
}

impl RoundTrip {
    /// Takes a measurement; returns whether it is so long that packets wait on the way, as HyStart
    /// sees it, by which Linux ends slow start (RFC 9406).
    pub(super) fn measure(&mut self, sample: Duration) -> bool {
        let least = self.least.map_or(sample, |least| least.min(sample));
        self.least = Some(least);
        self.smoothed = Some(match self.smoothed {
            None => (sample, sample / 2),
            Some((mean, deviation)) => {
                let error = mean.abs_diff(sample);
                (mean * 7 / 8 + sample / 8, deviation * 3 / 4 + error / 4)
            }
        });
        sample >= least + (least / 8).clamp(LEAST_WAIT, MOST_WAIT)
    }

    /// Returns the shortest round trip so far.
    pub(super) const fn least(self) -> Option<Duration> {
        self.least
    }

    /// Returns the retransmission timeout, doubled so many times.
    pub(super) fn timeout(self, doublings: u32) -> Duration {
        let first = match self.smoothed {
            None => INITIAL_RTO,
            Some((mean, deviation)) => mean + (4 * deviation).max(MIN_RTO),
        };
        first.saturating_mul(1 << doublings.min(16)).min(MAX_RTO)
    }
}

/// Returns how long to wait after so many SYNs, or nothing if they are enough.
pub(super) fn wait_after_syn(sent: u32) -> Option<Duration> {
    let wait = SYN_WAITS.get(usize::try_from(sent).ok()?.checked_sub(1)?);
    wait.map(|seconds| Duration::from_secs(*seconds))
}

/// The same of SYN-ACKs and SYNs in SYN-RECEIVED.
pub(super) fn wait_after_syn_ack(sent: u32, is_crossing: bool) -> Option<Duration> {
    let most = if is_crossing {
        CROSSING_REPETITIONS
    } else {
        SYN_ACK_REPETITIONS
    };
    let repeated = sent.checked_sub(1)?;
    (repeated <= most).then(|| Duration::from_secs(1 << repeated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_round_trip_time_and_its_variation() {
        let ms = Duration::from_millis;
        let mut trip = RoundTrip::default();
        assert_eq!(trip.timeout(0), ms(1000));
        assert_eq!(trip.timeout(2), ms(4000));
        assert!(!trip.measure(ms(80)));
        assert_eq!(trip.timeout(0), ms(280));
        for _ in 0..50 {
            assert!(!trip.measure(ms(89)));
        }
        assert_eq!(trip.timeout(0).as_millis(), 288);
        assert!(trip.measure(ms(90)));
        assert!(trip.measure(ms(880)));
        assert!(trip.timeout(0) > ms(900));
        assert_eq!(trip.timeout(30), ms(120_000));
    }

    #[test]
    fn a_syn_ack_is_given_up_after_63_s() {
        let total = |is_crossing| -> Duration {
            (1..)
                .map_while(|sent| wait_after_syn_ack(sent, is_crossing))
                .sum()
        };
        assert_eq!(total(false), Duration::from_secs(63));
        assert_eq!(total(true), Duration::from_secs(127));
    }
}
