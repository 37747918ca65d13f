//! Where an IP address leads.

mod special_purpose;

use std::net::IpAddr;

use crate::embedded::represented;

/// Where an IP address leads, whoever names it, judged by the node that it [stands
/// for](represented), and for that by the IANA special-purpose address registries (RFC 6890).
///
/// The documentation ranges (RFC 5737, RFC 3849, RFC 9637) are global on purpose: laboratories use
/// them as the Internet's addresses, and in real life they lead nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressScope {
    /// To no single host: the unspecified address and the rest of "this network" (RFC 1122 section
    /// 3.2.1.3), multicast, limited broadcast, what is reserved or for protocols, and forms of IPv6
    /// addresses that stand for no host with IPv4.
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
            IpAddr::V4(v4) => special_purpose::of_v4(v4),
            IpAddr::V6(v6) => special_purpose::of_v6(v6),
        };
        // What translators and tunnels lead to is public (RFC 6052 section 3.1, RFC 3056 section
        // 2).
        if node != ip.to_canonical() && scope != Self::Global {
            return Self::Nobody;
        }
        scope
    }
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
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn assert_all(expected: AddressScope, addresses: &[&str]) {
        for text in addresses {
            let found = AddressScope::of(text.parse().unwrap());
            assert_eq!(found, expected, "{text}");
        }
    }

    /// The IANA special-purpose address registries (RFC 6890), in their order, and what else is set
    /// apart; without what translates or tunnels. Ranges of which a part is apart are followed by
    /// what comes just before and behind that part.
    const SPECIAL_PURPOSE: [(AddressScope, &[&str]); 4] = [
        (
            AddressScope::Nobody,
            &[
                "0.0.0.0-0.255.255.255",
                "192.0.0.8-192.0.0.255",
                "192.88.99.0-192.88.99.255",
                "224.0.0.0-255.255.255.255",
                "::-::",
                "100::-100:0:0:1:ffff:ffff:ffff:ffff",
                "2001::-2001:1:ffff:ffff:ffff:ffff:ffff:ffff",
                "2001:2:1::-2001:2:ffff:ffff:ffff:ffff:ffff:ffff",
                "2001:4::-2001:4:111:ffff:ffff:ffff:ffff:ffff",
                "2001:4:113::-2001:1f:ffff:ffff:ffff:ffff:ffff:ffff",
                "2001:40::-2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
                "ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ],
        ),
        (
            AddressScope::Loopback,
            &["127.0.0.0-127.255.255.255", "::1-::1"],
        ),
        (
            AddressScope::Local,
            &[
                "10.0.0.0-10.255.255.255",
                "100.64.0.0-100.127.255.255",
                "169.254.0.0-169.254.255.255",
                "172.16.0.0-172.31.255.255",
                "192.0.0.0-192.0.0.7",
                "192.168.0.0-192.168.255.255",
                "198.18.0.0-198.19.255.255",
                "64:ff9b:1::-64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
                "2001:2::-2001:2:0:ffff:ffff:ffff:ffff:ffff",
                "5f00::-5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "fe80::-feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ],
        ),
        (
            AddressScope::Global,
            &[
                "1.0.0.0-9.255.255.255",
                "11.0.0.0-100.63.255.255",
                "100.128.0.0-126.255.255.255",
                "128.0.0.0-169.253.255.255",
                "169.255.0.0-172.15.255.255",
                "172.32.0.0-191.255.255.255",
                // TEST-NET-1 to AS112 and AMT.
                "192.0.1.0-192.88.98.255",
                "192.88.100.0-192.167.255.255",
                "192.169.0.0-198.17.255.255",
                "198.20.0.0-223.255.255.255",
                "64:ff9b:2::-64:ff9b:ffff:ffff:ffff:ffff:ffff:ffff",
                "100:0:0:2::-1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "2001:3::-2001:3:ffff:ffff:ffff:ffff:ffff:ffff",
                "2001:4:112::-2001:4:112:ffff:ffff:ffff:ffff:ffff",
                "2001:20::-2001:3f:ffff:ffff:ffff:ffff:ffff:ffff",
                "2001:200::-2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "2003::-5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "5f01::-fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "fe00::-fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ],
        ),
    ];

    #[test]
    fn ranges_end_where_the_registries_say() {
        for (scope, ranges) in SPECIAL_PURPOSE {
            for range in ranges {
                let (first, last) = range.split_once('-').unwrap();
                assert_all(scope, &[first, last]);
            }
        }
    }

    #[test]
    fn addresses_of_every_kind_lead_where_they_should() {
        assert_all(
            AddressScope::Local,
            &[
                "192.0.0.2",
                "::ffff:10.0.0.1",
                "64:ff9b:1::a00:1",
                "fec0::1",
            ],
        );
        assert_all(
            AddressScope::Global,
            &[
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "::ffff:192.0.2.1",
                "2001:db8::1",
                "64:ff9b::192.0.2.1",
                "2002:c000:201::1",
                "3fff::1",
            ],
        );
        assert_all(AddressScope::Loopback, &["::ffff:127.0.0.1"]);
        // The anycast addresses of PCP and TURN, and those that NAT64s are found by.
        assert_all(
            AddressScope::Nobody,
            &[
                "192.0.0.9",
                "192.0.0.10",
                "192.0.0.170",
                "2001:1::1",
                "::ffff:0.0.0.0",
                "::ffff:224.0.0.1",
                "64:ff9b::192.0.0.170",
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
            "192.88.99.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
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
