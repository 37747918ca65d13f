//! Which of the addresses that a peer is said to have are connected to.
//!
//! A coordinator passes on what a peer says of itself, and need not be honest either. An address
//! inside a network means something to those only who are in that network; anywhere else it leads
//! to a machine of somebody's who asked for nothing. So such an address counts only where this host
//! can tell that both are in one network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use p2pconnect_proto::{AddressScope, Candidate, is_global, is_local, represented};

use crate::{machine::surroundings::Surroundings, nat::families::Families};

/// From where this host looks at a peer's addresses.
#[derive(Debug, Clone)]
pub(crate) struct Vantage {
    surroundings: Surroundings,
    /// How this host is seen from outside its networks.
    outside: BTreeSet<IpAddr>,
    /// Where the coordinator is.
    coordinator: IpAddr,
    /// Whether the coordinator sees the peer where it sees this host.
    seen_together: bool,
}

impl Vantage {
    pub(crate) fn new(
        surroundings: Surroundings,
        outside: impl IntoIterator<Item = IpAddr>,
        coordinator: IpAddr,
        seen_together: bool,
    ) -> Self {
        Self {
            surroundings,
            outside: outside.into_iter().map(represented).collect(),
            coordinator: coordinator.to_canonical(),
            seen_together,
        }
    }

    /// Returns this host's own addresses.
    pub(crate) fn own(&self) -> impl Iterator<Item = IpAddr> {
        self.surroundings.own()
    }

    /// Returns how this host is seen from outside its networks.
    pub(crate) const fn outside(&self) -> &BTreeSet<IpAddr> {
        &self.outside
    }

    /// Returns where the coordinator is.
    pub(crate) const fn coordinator(&self) -> IpAddr {
        self.coordinator
    }

    /// Returns in which families public addresses of a peer lead to it.
    pub(crate) fn public_families(&self, candidates: &[Candidate]) -> Families {
        let addresses = candidates.iter().map(|it| it.address.ip());
        let public = addresses.filter(|ip| self.surroundings.scope(*ip) == AddressScope::Global);
        public.map(|ip| self.surroundings.node(ip)).collect()
    }

    /// Keeps those addresses of a peer that may be connected to.
    pub(crate) fn retain(&self, candidates: &mut Vec<Candidate>) {
        let is_shared = self.is_in_one_network_with(candidates);
        // Each address comes with several ports, and the system is asked about it.
        let mut known = BTreeMap::new();
        candidates.retain(|it| {
            let ip = it.address.ip();
            let is_kept = *known
                .entry(ip)
                .or_insert_with(|| self.admits(ip, is_shared));
            if !is_kept {
                tracing::debug!(kind = ?it.kind, "a candidate of the peer is not connected to");
            }
            is_kept
        });
    }

    /// Tells whether the peer is seen from outside where this host is: both are behind one NAT.
    pub(crate) fn is_in_one_network_with(&self, candidates: &[Candidate]) -> bool {
        // A coordinator inside a network introduces those who are inside as well. One that sees
        // this host at a private address reaches it without a NAT, as it does the peers that it
        // sees so.
        let is_inside = is_local(self.coordinator) || self.outside.iter().copied().any(is_local);
        let node = |it: &Candidate| self.surroundings.node(it.address.ip());
        let mut remotes = candidates.iter().map(node);
        self.seen_together
            || is_inside
            || remotes.any(|ip| is_global(ip) && self.outside.contains(&ip))
    }

    fn admits(&self, ip: IpAddr, is_shared: bool) -> bool {
        match self.surroundings.scope(ip) {
            AddressScope::Nobody => false,
            // Development on one machine.
            AddressScope::Loopback => self.coordinator.is_loopback(),
            AddressScope::Local if !is_shared && !self.surroundings.is_near(ip) => false,
            // What comes from this machine itself is let in by firewalls, and trusted by services.
            // Two peers on one machine are seen at one address.
            _ if self.surroundings.is_own(ip) => self.seen_together,
            AddressScope::Local | AddressScope::Global => true,
        }
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
        let surroundings = Surroundings::told(networks);
        Vantage::new(surroundings, [ip(outside)], ip(coordinator), false)
    }

    fn normal(address: &str) -> String {
        let address: std::net::SocketAddr = address.parse().unwrap();
        address.to_string()
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
    fn what_only_routes_lead_to_this_host_is_this_host_too() {
        let own = Surroundings::told(&[("192.0.2.5", 24)]);
        let own =
            own.keeping(|ip| matches!(ip, IpAddr::V4(v4) if v4.octets()[..3] == [203, 0, 113]));
        let host = Vantage::new(own, [ip("192.0.2.5")], ip("198.51.100.1"), false);
        let peer = [
            "203.0.113.9:22",
            "[::ffff:203.0.113.9]:22",
            "[64:ff9b::cb00:7109]:22",
            "198.51.100.9:22",
        ];
        assert_eq!(kept(&host, &peer), peer[3..]);
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
    fn an_ipv4_address_in_another_one_is_judged_as_what_it_is() {
        let own = [("192.168.1.5", 24), ("198.51.100.7", 24), ("127.0.0.1", 8)];
        let home = vantage(&own, "198.51.100.8", "203.0.113.1");
        let peer = [
            "[64:ff9b::127.0.0.1]:22",
            "[64:ff9b::198.51.100.7]:22",
            "[64:ff9b::192.168.1.9]:22",
            "[64:ff9b::10.0.0.1]:22",
            "[64:ff9b:1::a00:1]:22",
            "[2002:c633:6407::1]:22",
            "[2002:c0a8:109::1]:22",
            "[2001::1]:22",
            "[::198.51.100.7]:22",
            "[::ffff:0:198.51.100.7]:22",
            "[64:ff9b::203.0.113.9]:22",
            "[2002:cb00:7109::1]:22",
        ];
        let expected: Vec<_> = peer[10..].iter().map(|it| normal(it)).collect();
        assert_eq!(kept(&home, &peer), expected);
        let development = vantage(&own, "127.0.0.1", "127.0.0.1");
        assert_eq!(kept(&development, &peer), expected);
    }

    #[test]
    fn what_a_nat64_leads_to_is_judged_as_what_it_is() {
        let named = "2001:db8:6464::192.0.0.170";
        let home = Vantage {
            surroundings: Surroundings::told(&[("2001:db8::5", 64)]).behind(named),
            ..vantage(&[], "198.51.100.7", "203.0.113.1")
        };
        let peer = [
            "[2001:db8:6464::203.0.113.9]:1",
            "[2001:db8:6464::10.0.0.1]:1",
            "[2001:db8:6464::127.0.0.1]:1",
            "[2001:db8:6465::10.0.0.1]:1",
        ];
        assert_eq!(kept(&home, &peer), [peer[0], peer[3]].map(normal));
        // A prefix for use inside (RFC 8215) leads to everybody all the same.
        let home = Vantage {
            surroundings: Surroundings::told(&[]).behind("64:ff9b:1::192.0.0.170"),
            ..home
        };
        let peer = ["[64:ff9b:1::203.0.113.9]:1", "[64:ff9b:1::10.0.0.1]:1"];
        assert_eq!(
            kept(&home, &peer),
            peer[..1].iter().map(|it| normal(it)).collect::<Vec<_>>()
        );
        let nowhere = vantage(&[], "198.51.100.7", "203.0.113.1");
        assert!(kept(&nowhere, &peer).is_empty());
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
