//! Which events an operator is told of, so that nobody can fill a disk with them.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{network::site, rate::RateLimiter};

/// The lines that one IPv4 address or IPv6 /48 may cause at once: some peers that come, dial and
/// go.
const SITE_BURST: u32 = 32;

/// How long it takes until a network may cause another line.
const SITE_INTERVAL: Duration = Duration::from_secs(5);

/// The lines that all networks may cause at once: those of a thousand peers that come back after an
/// outage.
const BURST: u32 = 1024;

/// How long it takes until another line may be written. With 200 bytes a line, a day has 70 MB at
/// most.
const INTERVAL: Duration = Duration::from_millis(250);

/// Counts the lines that are written, by whom they are due to. Pure.
#[derive(Debug)]
pub(super) struct Journal {
    by_site: RateLimiter<IpAddr>,
    all: RateLimiter<()>,
    left_out: u64,
}

impl Journal {
    pub(super) const fn new() -> Self {
        Self {
            by_site: RateLimiter::new(SITE_BURST, SITE_INTERVAL),
            all: RateLimiter::new(BURST, INTERVAL),
            left_out: 0,
        }
    }

    /// Takes the room for a line that `source` causes. Returns how many were left out since the
    /// last one, or `None` where this one is to be left out.
    pub(super) fn take(&mut self, source: IpAddr, now: Instant) -> Option<u64> {
        let is_allowed = self.by_site.take(site(source), now).is_ok();
        if is_allowed && self.all.take((), now).is_ok() {
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(
        journal: &mut Journal,
        sources: impl Iterator<Item = [u8; 4]>,
        now: Instant,
    ) -> usize {
        let mut count = 0;
        for source in sources {
            count += usize::from(journal.take(source.into(), now).is_some());
        }
        count
    }

    #[test]
    fn one_network_leaves_lines_for_others_and_what_is_left_out_is_counted() {
        let (mut journal, now) = (Journal::new(), Instant::now());
        let greedy = std::iter::repeat_n([192, 0, 2, 1], 1000);
        assert_eq!(written(&mut journal, greedy, now), SITE_BURST as usize);
        assert_eq!(journal.take([192, 0, 2, 2].into(), now), Some(968));
        assert_eq!(journal.take([192, 0, 2, 2].into(), now), Some(0));
    }

    #[test]
    fn no_number_of_networks_fills_a_disk() {
        let (mut journal, start) = (Journal::new(), Instant::now());
        let mut lines = 0;
        for second in 0..3600 {
            let networks = (0..=255).map(|last| [198, 51, 100, last]);
            lines += written(&mut journal, networks, start + Duration::from_secs(second));
        }
        let limit = 3_600_000 / INTERVAL.as_millis() as usize + BURST as usize;
        assert!(lines <= limit, "{lines} lines in an hour");
    }
}
