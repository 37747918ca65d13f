//! The queue in front of a link that is only so fast.

use std::time::Duration;

use super::spec::Rate;

/// Bits that a byte has, in nanobits.
const NANOBITS_PER_BYTE: u128 = 8_000_000_000;

/// What waits to be sent, counted so finely that nothing is ever rounded: a rate in bits per second
/// sends as many nanobits in each nanosecond.
///
/// What waits is one number, not a list of packets: a rate of any height and a queue of any length
/// cost the same.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    rate: Rate,
    backlog: u128,
    /// When the backlog was counted.
    at: Duration,
}

impl Queue {
    pub(super) const fn new(rate: Rate) -> Self {
        Self {
            rate,
            backlog: 0,
            at: Duration::ZERO,
        }
    }

    /// Takes a packet, and returns how long it takes until its last bit is sent, or `None` if the
    /// queue is full.
    pub(super) fn take(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        // A rate of zero is refused before, and must not divide by zero.
        let rate = u128::from(self.rate.bits_per_second.max(1));
        let sent = rate.saturating_mul(now.saturating_sub(self.at).as_nanos());
        self.backlog = self.backlog.saturating_sub(sent);
        self.at = self.at.max(now);
        let grown = self.backlog + bytes as u128 * NANOBITS_PER_BYTE;
        let bound = u128::from(self.rate.queue_bytes) * NANOBITS_PER_BYTE;
        if self.backlog > 0 && grown > bound {
            return None;
        }
        self.backlog = grown;
        let wait = u64::try_from(grown.div_ceil(rate)).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(wait))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(bits_per_second: u64, queue_bytes: u32) -> Queue {
        Queue::new(Rate {
            bits_per_second,
            queue_bytes,
        })
    }

    #[test]
    fn a_packet_takes_its_bits_at_the_rate() {
        let mut queue = queue(12_000_000, 3000);
        let ms = Duration::from_millis;
        assert_eq!(queue.take(ms(0), 1500), Some(ms(1)));
        assert_eq!(queue.take(ms(0), 1500), Some(ms(2)));
        assert_eq!(queue.take(ms(0), 1), None);
        // A millisecond later one packet is out, and the next is complete.
        assert_eq!(queue.take(ms(1), 1500), Some(ms(2)));
        // Long after, nothing waits.
        assert_eq!(queue.take(ms(100), 750), Some(Duration::from_micros(500)));
    }

    #[test]
    fn an_idle_link_sends_what_its_queue_has_no_room_for() {
        let mut queue = queue(8000, 0);
        let second = Duration::from_secs(1);
        assert_eq!(queue.take(Duration::ZERO, 1000), Some(second));
        assert_eq!(queue.take(second - Duration::from_nanos(1), 1000), None);
        assert_eq!(queue.take(second, 1000), Some(second));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut slow = queue(0, u32::MAX);
        assert!(slow.take(Duration::ZERO, usize::MAX).is_some());
        assert!(slow.take(Duration::MAX, usize::MAX).is_none());
        assert!(slow.take(Duration::ZERO, 1).is_none());
        let mut fast = queue(u64::MAX, 0);
        assert!(fast.take(Duration::MAX, 1).is_some());
        assert!(fast.take(Duration::MAX, 1).is_none());
    }

    proptest! {
        #[test]
        fn throughput_is_the_rate_and_nothing_is_rounded(
            rate in 1u64..100_000_000_000,
            packets in proptest::collection::vec(1usize..2000, 1..200),
        ) {
            let mut queue = queue(rate, u32::MAX);
            let mut bits = 0;
            for bytes in packets {
                bits += bytes as u128 * 8;
                let sent = queue.take(Duration::ZERO, bytes).map(|wait| wait.as_nanos());
                prop_assert_eq!(sent, Some((bits * 1_000_000_000).div_ceil(rate.into())));
            }
        }

        #[test]
        fn no_more_waits_than_fits(
            rate in 8u64..1_000_000_000,
            bound in 0u32..20_000,
            packets in proptest::collection::vec((1usize..2000, 0u64..1_000_000), 1..300),
        ) {
            let mut queue = queue(rate, bound);
            let mut now = Duration::ZERO;
            let mut sent: Vec<(Duration, usize)> = Vec::new();
            for (bytes, gap) in packets {
                now += Duration::from_nanos(gap);
                // Counted the other way: whole packets not yet complete.
                let waiting: usize = sent.iter().filter(|(at, _)| *at > now).map(|(_, bytes)| bytes).sum();
                let taken = queue.take(now, bytes);
                if let Some(wait) = taken {
                    let longest = u128::from(bound).max(bytes as u128) * 8_000_000_000;
                    prop_assert!(wait.as_nanos() <= longest.div_ceil(rate.into()));
                    sent.push((now + wait, bytes));
                } else {
                    prop_assert!(waiting > 0, "lost on an idle link");
                    prop_assert!(waiting + bytes > bound as usize, "lost with room for it");
                }
            }
            prop_assert!(sent.is_sorted_by_key(|(at, _)| *at));
        }
    }
}
