//! How many datagrams the server answers: an address that is forged shall not be sent much.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{network::Network, rate::Rate};

/// The most networks whose rate is known, in some 6 MiB: those of a quarter of a second in which
/// as many ask as one core answers, and of far more where nobody forges.
const MAX_NETWORKS: usize = 65_536;

/// What datagrams have been answered to whom.
#[derive(Debug)]
pub(crate) struct DatagramLimits {
    rate: Rate,
    paid_until: BTreeMap<Network, Instant>,
}

impl DatagramLimits {
    /// Allows so many answers a second to one IPv4 address or IPv6 /64, and so many at once.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            rate: Rate::new(per_second, burst),
            paid_until: BTreeMap::new(),
        }
    }

    /// Counts an answer to an address, and tells whether it may be sent. What is asked too fast is
    /// not answered later: whoever asks by UDP asks again.
    pub(crate) fn admits(&mut self, ip: IpAddr, now: Instant) -> bool {
        let networks = Network::all_of(ip);
        let paid_until = |it: &Network| self.paid_until.get(it).copied().unwrap_or(now);
        let is_early = |it: &Network| self.rate.delay(paid_until(it), *it, now) > Duration::ZERO;
        if networks.iter().any(is_early) {
            return false;
        }
        self.make_room(now);
        for network in networks {
            let paid_until = self.paid_until.entry(network).or_insert(now);
            self.rate.pay(paid_until, network, now);
        }
        true
    }

    /// Forgets the networks that have nothing left to pay, or all where these are few: looking for
    /// them must not be what a flood of forged addresses costs.
    fn make_room(&mut self, now: Instant) {
        if self.paid_until.len() < MAX_NETWORKS {
            return;
        }
        self.paid_until.retain(|_, paid_until| *paid_until > now);
        if self.paid_until.len() > MAX_NETWORKS / 4 * 3 {
            self.paid_until.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn v6(high: u64) -> IpAddr {
        Ipv6Addr::from_bits(u128::from(high) << 64).into()
    }

    #[test]
    fn an_address_is_answered_a_few_times_at_once_and_then_at_a_rate() {
        let (mut limits, now) = (DatagramLimits::new(10, 5), Instant::now());
        let answered = |limits: &mut DatagramLimits, ip, now| {
            (0..50).filter(|_| limits.admits(ip, now)).count()
        };
        assert_eq!(answered(&mut limits, v4(1), now), 5);
        assert_eq!(answered(&mut limits, v4(2), now), 5, "another one");
        // What was not answered does not count.
        let later = now + Duration::from_millis(200);
        assert_eq!(answered(&mut limits, v4(1), later), 2);
        let mapped = Ipv4Addr::from_bits(1).to_ipv6_mapped().into();
        assert_eq!(answered(&mut limits, mapped, later), 0, "the same one");
    }

    #[test]
    fn a_site_of_ipv6_gets_four_times_as_many() {
        let (mut limits, now) = (DatagramLimits::new(10, 5), Instant::now());
        let subnets = (0..40).map(|it| v6(0x2001_0db8_0001_0000 + it));
        let answered = subnets.filter(|it| (0..5).all(|_| limits.admits(*it, now)));
        assert_eq!(answered.count(), 4);
        assert!(limits.admits(v6(0x2001_0db8_0002_0000), now), "another one");
    }

    #[test]
    fn a_flood_of_forged_addresses_takes_bounded_memory() {
        let (mut limits, now) = (DatagramLimits::new(10, 5), Instant::now());
        let most = u32::try_from(MAX_NETWORKS).expect("a small number");
        for number in 0..3 * most {
            assert!(limits.admits(v4(number), now));
            assert!(limits.paid_until.len() <= MAX_NETWORKS);
        }
        let later = now + Duration::from_secs(1);
        for number in 0..most {
            assert!(limits.admits(v4(number), later));
        }
    }
}
