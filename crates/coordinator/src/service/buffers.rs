//! How much of requests that are not whole yet is kept, in all and for each network. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use super::ServiceLimits;
use crate::network::site;

/// Counts the bytes of requests that are being read by where they come from.
#[derive(Debug)]
pub(super) struct Buffers {
    max_total: usize,
    max_per_site: usize,
    total: usize,
    by_site: BTreeMap<IpAddr, usize>,
}

impl Buffers {
    /// Returns buffers that hold nothing.
    pub(super) const fn new(limits: &ServiceLimits) -> Self {
        Self {
            max_total: limits.max_unfinished,
            max_per_site: limits.max_unfinished_per_source,
            total: 0,
            by_site: BTreeMap::new(),
        }
    }

    /// Sets the limits for what comes from now on.
    pub(super) const fn set_limits(&mut self, limits: &ServiceLimits) {
        self.max_total = limits.max_unfinished;
        self.max_per_site = limits.max_unfinished_per_source;
    }

    /// Returns how many bytes are kept.
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// Makes room for so many more bytes from `source`; tells whether there is any.
    ///
    /// As with connections, whoever has much takes nothing of what is left when half is gone.
    pub(super) fn take(&mut self, source: IpAddr, bytes: usize) -> bool {
        let site = site(source);
        let taken = self.by_site.get(&site).map_or(0, |&it| it) + bytes;
        let free = self.max_total.saturating_sub(self.total);
        let share = if free < self.max_total / 2 {
            free / 16
        } else {
            usize::MAX
        };
        if taken > share.min(self.max_per_site) {
            return false;
        }
        self.total += bytes;
        self.by_site.insert(site, taken);
        true
    }

    /// Gives back what was taken for `source`.
    pub(super) fn give_back(&mut self, source: IpAddr, bytes: usize) {
        let site = site(source);
        self.total = self.total.saturating_sub(bytes);
        if let Some(taken) = self.by_site.get_mut(&site) {
            *taken = taken.saturating_sub(bytes);
            if *taken == 0 {
                self.by_site.remove(&site);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const FRAME: usize = 64 << 10;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(n))
    }

    #[test]
    fn one_network_has_so_much_and_gives_it_back() {
        let limits = ServiceLimits::default();
        let mut buffers = Buffers::new(&limits);
        let taken = (0..1_000).filter(|_| buffers.take(ip(1), FRAME)).count();
        assert_eq!(taken, limits.max_unfinished_per_source / FRAME);
        assert!(buffers.take(ip(2), FRAME));
        buffers.give_back(ip(1), FRAME);
        assert!(buffers.take(ip(1), FRAME));
        for _ in 0..taken {
            buffers.give_back(ip(1), FRAME);
        }
        buffers.give_back(ip(2), FRAME);
        assert!(buffers.by_site.is_empty() && buffers.total == 0);
    }

    #[test]
    fn many_greedy_networks_leave_room_for_another() {
        for mib in [48, 64, 128, 1 << 20] {
            let limits = ServiceLimits::default().within_memory(mib << 20);
            let mut buffers = Buffers::new(&limits);
            for n in 0..1_000 {
                while buffers.take(ip(n), FRAME) {}
            }
            assert!(buffers.total <= limits.max_unfinished);
            assert!(buffers.total as u64 <= (mib << 20) / 8, "{mib} MiB");
            assert!(buffers.take(ip(9_999), 4 << 10), "{}", buffers.total);
        }
    }
}
