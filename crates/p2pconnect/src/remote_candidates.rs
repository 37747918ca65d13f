//! Which of the addresses that a peer is said to have are connected to.
//!
//! A coordinator passes on what a peer says of itself, and need not be honest either. An address inside
//! a network means something to those only who are in that network; anywhere else it leads to a
//! machine of somebody's who asked for nothing. So such an address counts only where this host can tell
//! that both are in one network.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use p2pconnect_proto::Candidate;
use p2pconnect_punch::is_global;

/// A network with a shorter prefix than this is no network that a host is in, but a way of writing
/// "everything" (RFC 1918 has none above 10.0.0.0/8).
const MIN_IPV4_PREFIX: u8 = 8;

/// The same for IPv6: unique local addresses are /7 in all, and a site has a /48 (RFC 4193).
const MIN_IPV6_PREFIX: u8 = 32;

/// A network that this host has an address in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    fn contains(self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(other)) if self.prefix >= MIN_IPV4_PREFIX => {
                cut_v4(own, self.prefix) == cut_v4(other, self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) if self.prefix >= MIN_IPV6_PREFIX => {
                cut_v6(own, self.prefix) == cut_v6(other, self.prefix)
            }
            _ => false,
        }
    }
}

fn cut_v4(ip: Ipv4Addr, prefix: u8) -> u32 {
    let host_bits = 32 - u32::from(prefix.min(32));
    ip.to_bits().checked_shr(host_bits).unwrap_or(0)
}

fn cut_v6(ip: Ipv6Addr, prefix: u8) -> u128 {
    let host_bits = 128 - u32::from(prefix.min(128));
    ip.to_bits().checked_shr(host_bits).unwrap_or(0)
}

/// From where this host looks at a peer's addresses.
#[derive(Debug, Clone)]
pub(crate) struct Vantage {
    networks: Vec<Network>,
    /// How this host is seen from outside its networks.
    outside: BTreeSet<IpAddr>,
    /// Where the coordinator is.
    coordinator: IpAddr,
    /// Whether the coordinator sees the peer where it sees this host.
    seen_together: bool,
}

impl Vantage {
    /// Looks at the networks that this host is in at this moment.
    pub(crate) fn now(
        outside: impl IntoIterator<Item = IpAddr>,
        coordinator: IpAddr,
        seen_together: bool,
    ) -> Self {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
            tracing::warn!(%error, "this machine's networks cannot be listed");
            Vec::new()
        });
        let network = |address: &if_addrs::IfAddr| match address {
            if_addrs::IfAddr::V4(v4) => Network {
                address: v4.ip.into(),
                prefix: v4.prefixlen,
            },
            if_addrs::IfAddr::V6(v6) => Network {
                address: v6.ip.into(),
                prefix: v6.prefixlen,
            },
        };
        Self {
            networks: interfaces.iter().map(|it| network(&it.addr)).collect(),
            outside: outside.into_iter().map(|ip| ip.to_canonical()).collect(),
            coordinator: coordinator.to_canonical(),
            seen_together,
        }
    }

    /// Returns this host's own addresses.
    pub(crate) fn own(&self) -> impl Iterator<Item = IpAddr> {
        self.networks.iter().map(|it| it.address)
    }

    /// Returns how this host is seen from outside its networks.
    pub(crate) const fn outside(&self) -> &BTreeSet<IpAddr> {
        &self.outside
    }

    /// Returns where the coordinator is.
    pub(crate) const fn coordinator(&self) -> IpAddr {
        self.coordinator
    }

    /// Keeps those addresses of a peer that may be connected to.
    pub(crate) fn retain(&self, candidates: &mut Vec<Candidate>) {
        let is_shared = self.is_in_one_network_with(candidates);
        candidates.retain(|it| {
            let is_kept = self.admits(it.address.ip(), is_shared);
            if !is_kept {
                tracing::debug!(kind = ?it.kind, "a candidate of the peer is not connected to");
            }
            is_kept
        });
    }

    /// Tells whether the peer is seen from outside where this host is: both are behind one NAT.
    fn is_in_one_network_with(&self, candidates: &[Candidate]) -> bool {
        // A coordinator inside a network introduces those who are inside as well. One that sees this host
        // at a private address reaches it without a NAT, as it does the peers that it sees so.
        let is_inside = |ip: &IpAddr| !ip.is_loopback() && !is_global(*ip);
        let is_inside = is_inside(&self.coordinator) || self.outside.iter().any(is_inside);
        let mut remotes = candidates.iter().map(|it| it.address.ip().to_canonical());
        self.seen_together
            || is_inside
            || remotes.any(|ip| is_global(ip) && self.outside.contains(&ip))
    }

    fn admits(&self, ip: IpAddr, is_shared: bool) -> bool {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            // Development on one machine.
            return self.coordinator.is_loopback();
        }
        if self.own().any(|own| own == ip) {
            // What comes from this machine itself is let in by firewalls, and trusted by services. Two peers on
            // one machine are seen at one address.
            return self.seen_together;
        }
        is_global(ip) || is_shared || self.networks.iter().any(|it| it.contains(ip))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect_proto::{CandidateKind, PunchPort};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn vantage(networks: &[(&str, u8)], outside: &str, coordinator: &str) -> Vantage {
        let network = |(address, prefix): &(&str, u8)| Network {
            address: ip(address),
            prefix: *prefix,
        };
        Vantage {
            networks: networks.iter().map(network).collect(),
            outside: BTreeSet::from([ip(outside)]),
            coordinator: ip(coordinator),
            seen_together: false,
        }
    }

    fn kept(vantage: &Vantage, peer: &[&str]) -> Vec<String> {
        let candidate = |text: &&str| Candidate {
            kind: CandidateKind::Host,
            address: text.parse().unwrap(),
            punch_port: PunchPort::PRIMARY,
            token: None,
        };
        let mut candidates: Vec<_> = peer.iter().map(candidate).collect();
        vantage.retain(&mut candidates);
        let address = |it: &Candidate| it.address.to_string();
        candidates.iter().map(address).collect()
    }

    #[test]
    fn a_private_address_counts_in_a_network_of_this_host_alone() {
        let home = vantage(
            &[("192.168.1.5", 24), ("fd00:1::5", 64), ("127.0.0.1", 8)],
            "198.51.100.7",
            "203.0.113.1",
        );
        let peer = [
            "203.0.113.9:1",
            "192.168.1.9:1",
            "192.168.2.9:1",
            "10.0.0.1:1",
            "100.64.0.1:1",
            "[fd00:1::9]:1",
            "[fd00:2::9]:1",
            "[2001:db8::9]:1",
        ];
        let expected = [
            "203.0.113.9:1",
            "192.168.1.9:1",
            "[fd00:1::9]:1",
            "[2001:db8::9]:1",
        ];
        assert_eq!(kept(&home, &peer), expected);
    }

    #[test]
    fn this_host_itself_counts_for_a_peer_that_may_be_on_it() {
        let own = [
            ("192.168.1.5", 24),
            ("198.51.100.7", 24),
            ("2001:db8::5", 64),
        ];
        let host = vantage(&own, "198.51.100.7", "203.0.113.1");
        let peer = [
            "192.168.1.5:22",
            "198.51.100.7:22",
            "[2001:db8::5]:22",
            "[::ffff:192.168.1.5]:22",
        ];
        assert!(kept(&host, &peer).is_empty());
        let seen = Vantage {
            seen_together: true,
            ..host
        };
        assert_eq!(kept(&seen, &peer), peer);
    }

    #[test]
    fn who_is_seen_at_the_same_address_is_in_the_same_network() {
        let home = vantage(&[("192.168.1.5", 24)], "198.51.100.7", "203.0.113.1");
        let peer = ["198.51.100.7:5", "10.0.0.9:1"];
        assert_eq!(kept(&home, &peer), peer);
        // A peer that no STUN server has told an address; the coordinator sees it all the same.
        let seen = Vantage {
            seen_together: true,
            ..home
        };
        assert_eq!(kept(&seen, &["10.0.0.9:1"]), ["10.0.0.9:1"]);
    }

    #[test]
    fn a_rented_server_connects_to_no_private_address() {
        let server = vantage(&[("198.51.100.7", 24)], "198.51.100.7", "203.0.113.1");
        let peer = ["203.0.113.9:1", "192.168.1.9:1", "10.0.0.1:1"];
        assert_eq!(kept(&server, &peer), ["203.0.113.9:1"]);
        // Nor does a network without a size make it one.
        let tunnel = vantage(&[("10.0.0.1", 0)], "198.51.100.7", "203.0.113.1");
        assert_eq!(kept(&tunnel, &peer), ["203.0.113.9:1"]);
    }

    #[test]
    fn a_coordinator_inside_a_network_introduces_those_inside() {
        let office = vantage(&[("10.1.0.5", 16)], "10.1.0.5", "10.3.0.1");
        assert_eq!(kept(&office, &["10.2.0.9:1"]), ["10.2.0.9:1"]);
        // Outside, but with routes and no NAT in between.
        let site = vantage(&[("10.1.0.5", 16)], "10.1.0.5", "203.0.113.1");
        assert_eq!(kept(&site, &["10.2.0.9:1"]), ["10.2.0.9:1"]);
    }

    #[test]
    fn nobody_is_led_to_itself() {
        let peer = ["127.0.0.1:6379", "[::1]:6379", "[::ffff:127.0.0.1]:6379"];
        let home = vantage(&[("127.0.0.1", 8)], "198.51.100.7", "203.0.113.1");
        assert!(kept(&home, &peer).is_empty());
        let development = vantage(&[("127.0.0.1", 8)], "127.0.0.1", "127.0.0.1");
        assert_eq!(kept(&development, &peer), peer);
    }
}
