//! Where an IP address leads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::embedded::{is_obsolete, is_translated_locally, represented};

/// Where an IP address leads, whoever names it, judged by the node that it [stands for](represented).
///
/// The documentation ranges (RFC 5737, RFC 3849) are global on purpose: laboratories use them as the
/// Internet's addresses, and in real life they lead nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressScope {
    /// To no single host: the unspecified address and the rest of "this network" (RFC 1122 section 3.2.1.3),
    /// multicast, limited broadcast, and forms of IPv6 addresses that stand for no host with IPv4.
    Nobody,
    /// To the machine itself.
    Loopback,
    /// To a host for those who are in its network, and elsewhere to another one or to nobody.
    Local,
    /// To the same host from everywhere, NATs and firewalls aside.
    Global,
}

impl AddressScope {
    /// Returns where an address leads.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        let node = represented(ip);
        let scope = match node {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        };
        // What translators and tunnels lead to is public (RFC 6052 section 3.1, RFC 3056 section 2).
        if node != ip.to_canonical() && scope != Self::Global {
            return Self::Nobody;
        }
        scope
    }

    const fn of_v4(ip: Ipv4Addr) -> Self {
        let [a, b, c, d] = ip.octets();
        if a == 0 || ip.is_multicast() || ip.is_broadcast() {
            Self::Nobody
        } else if ip.is_loopback() {
            Self::Loopback
        } else if ip.is_private() || ip.is_link_local() || is_behind_carrier([a, b, c, d]) {
            Self::Local
        } else {
            Self::Global
        }
    }

    const fn of_v6(ip: Ipv6Addr) -> Self {
        if ip.is_loopback() {
            Self::Loopback
        } else if ip.is_unspecified() || ip.is_multicast() || is_obsolete(ip) {
            Self::Nobody
        } else if ip.is_unique_local() || ip.is_unicast_link_local() || is_translated_locally(ip) {
            Self::Local
        } else {
            Self::Global
        }
    }
}

/// Tells whether an IPv4 address is of the shared space (RFC 6598), or of the inner end of DS-Lite (RFC 6333
/// section 5.7).
const fn is_behind_carrier([a, b, c, d]: [u8; 4]) -> bool {
    (a == 100 && b & 0b1100_0000 == 64) || (a == 192 && b == 0 && c == 0 && d < 8)
}

/// Tells whether an address can be reached from anywhere, NATs and firewalls aside.
#[must_use]
pub fn is_global(ip: IpAddr) -> bool {
    AddressScope::of(ip) == AddressScope::Global
}

/// Tells whether an address leads to a host only for those who are in its network.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    AddressScope::of(ip) == AddressScope::Local
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn assert_all(expected: AddressScope, addresses: &[&str]) {
        for text in addresses {
            let found = AddressScope::of(text.parse().unwrap());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn ranges_end_where_the_rfcs_say() {
        assert_all(
            AddressScope::Local,
            &[
                "10.0.0.1",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.1.1",
                "169.254.1.1",
                "100.64.0.0",
                "100.127.255.255",
                "192.0.0.2",
                "fc00::1",
                "fdff::1",
                "fe80::1",
                "::ffff:10.0.0.1",
                "64:ff9b:1::",
                "64:ff9b:1::a00:1",
                "64:ff9b:1:ffff::1",
            ],
        );
        assert_all(
            AddressScope::Global,
            &[
                "172.32.0.1",
                "100.63.255.255",
                "100.128.0.0",
                "192.0.0.8",
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "240.0.0.1",
                "::ffff:192.0.2.1",
                "2001:db8::1",
                "2001:1::1",
                "64:ff9b::192.0.2.1",
                "64:ff9b:2::1",
                "2002:c000:201::1",
            ],
        );
        assert_all(
            AddressScope::Loopback,
            &["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"],
        );
        assert_all(
            AddressScope::Nobody,
            &[
                "0.0.0.0",
                "0.1.2.3",
                "224.0.0.1",
                "255.255.255.255",
                "::",
                "ff02::1",
                "::ffff:0.0.0.0",
                "::ffff:224.0.0.1",
            ],
        );
    }

    #[test]
    fn forms_with_an_ipv4_address_inside_name_no_host_in_a_network() {
        for inside in [
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
        ] {
            let inside: Ipv4Addr = inside.parse().unwrap();
            let bits = u128::from(inside.to_bits());
            let translated = 0x64_ff9b << 96 | bits;
            let tunnelled = 0x2002 << 112 | bits << 80 | 1;
            for form in [translated, tunnelled].map(Ipv6Addr::from_bits) {
                assert_eq!(
                    AddressScope::of(form.into()),
                    AddressScope::Nobody,
                    "{form}"
                );
            }
        }
        assert_all(
            AddressScope::Nobody,
            &[
                "::192.0.2.1",
                "::127.0.0.1",
                "::ffff:0:192.0.2.1",
                "2001::1",
                "2001:0:c000:201::1",
            ],
        );
    }
}
