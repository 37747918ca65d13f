//! The prefix of a NAT64, and the IPv6 addresses that stand for IPv4 ones under it (RFC 6052).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The addresses of the name that has IPv4 addresses only (RFC 7050 section 8.1).
pub(super) const IPV4_ONLY: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// The lengths that a prefix can have, in octets (RFC 6052 section 2.2).
const LENGTHS: [usize; 6] = [12, 8, 7, 6, 5, 4];

/// The octet that is always zero (RFC 6052 section 2.2).
const ZERO_OCTET: usize = 8;

/// An IPv6 prefix that stands for all IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    octets: [u8; 16],
    length: usize,
}

impl Prefix {
    /// Returns the prefix that an address of the IPv4-only name was made with.
    pub(crate) fn of(address: Ipv6Addr) -> Option<Self> {
        let octets = address.octets();
        LENGTHS.into_iter().find_map(|length| {
            let prefix = Self { octets, length };
            let made = |known: &Ipv4Addr| prefix.with(*known) == address;
            IPV4_ONLY.iter().any(made).then_some(prefix)
        })
    }

    /// Returns the address that stands for an IPv4 address.
    pub(super) fn with(&self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = [0; 16];
        octets[..self.length].copy_from_slice(&self.octets[..self.length]);
        for (position, octet) in self.octet_positions().zip(address.octets()) {
            octets[position] = octet;
        }
        octets.into()
    }

    /// Returns the IPv4 address that an address stands for, if it has this prefix.
    pub(crate) fn without(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = address.octets();
        let mut v4 = [0; 4];
        for (position, octet) in self.octet_positions().zip(&mut v4) {
            *octet = octets[position];
        }
        let v4 = Ipv4Addr::from(v4);
        (self.with(v4) == address).then_some(v4)
    }

    /// Returns where the octets of IPv4 addresses are, and what follows them.
    fn octet_positions(&self) -> impl Iterator<Item = usize> + use<> {
        (self.length..16).filter(|position| *position != ZERO_OCTET)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    /// The examples of RFC 6052 section 2.4, all for 192.0.2.33.
    const EXAMPLES: [(&str, usize, &str); 7] = [
        ("2001:db8::", 4, "2001:db8:c000:221::"),
        ("2001:db8:100::", 5, "2001:db8:1c0:2:21::"),
        ("2001:db8:122::", 6, "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::", 7, "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::", 8, "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::", 12, "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::", 12, "64:ff9b::192.0.2.33"),
    ];

    #[test]
    fn addresses_are_made_and_prefixes_found_as_in_the_rfc() {
        for (prefix, length, expected) in EXAMPLES {
            let prefix: Ipv6Addr = prefix.parse().unwrap();
            let octets = prefix.octets();
            let prefix = Prefix { octets, length };
            let address = Ipv4Addr::new(192, 0, 2, 33);
            let expected: Ipv6Addr = expected.parse().unwrap();
            assert_eq!(prefix.with(address), expected);
            assert_eq!(prefix.without(expected), Some(address));
            for known in IPV4_ONLY {
                let found = Prefix::of(prefix.with(known)).unwrap();
                assert_eq!((found.length, found.with(address)), (length, expected));
            }
        }
        for other in [
            "2001:db8::1",
            "64:ff9b::192.0.2.1",
            "::",
            "::ffff:192.0.0.1",
        ] {
            assert_eq!(Prefix::of(other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn addresses_with_another_prefix_stand_for_none() {
        let prefix = Prefix::of("2001:db8:122:344:c0:0:aa00:0".parse().unwrap()).unwrap();
        assert_eq!(prefix.length, 8);
        for other in [
            "2001:db8:122:345:c0:2:2100:0",
            "2001:db8:122:344:1c0:2:2100:0",
            "2001:db8:122:344:c0:2:2100:1",
        ] {
            assert_eq!(prefix.without(other.parse().unwrap()), None, "{other}");
        }
    }
}
