//! Which addresses belong to one subscriber, and which to one site.

use std::net::{IpAddr, Ipv6Addr};

use p2pconnect_proto::represented;

/// How many subscribers' worth of anything a site may have. A /48 has 65,536 /64 in it.
pub(crate) const SUBSCRIBERS_PER_SITE: u32 = 4;

/// Returns what stands for one subscriber: an IPv4 address as it is, an IPv6 address cut to its
/// first 64 bits.
///
/// A host takes new addresses within its /64 at will (privacy addresses, RFC 8981), and may use
/// one of them for QUIC and another for TCP. An IPv6 subnet is a /64 (RFC 4291 section 2.5.1), so
/// whoever is seen at one address of it is on the link that all the others lead to.
pub(crate) fn subscriber(ip: IpAddr) -> IpAddr {
    cut(ip, !u128::from(u64::MAX))
}

/// Returns what stands for one site: an IPv4 address as it is, an IPv6 address cut to its first 48
/// bits, which is what a customer is given at most (RFC 6177).
pub(crate) fn site(ip: IpAddr) -> IpAddr {
    cut(ip, !(u128::MAX >> 48))
}

/// Returns an IPv4 address as it is, and of an IPv6 address the bits in `mask`. One that stands for
/// an IPv4 address is that one: whoever has it would not be a neighbour of all who come by the same
/// translator.
fn cut(ip: IpAddr, mask: u128) -> IpAddr {
    match represented(ip) {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_subscriber_is_an_ipv4_address_or_a_64() {
        assert_eq!(subscriber(ip("192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(subscriber(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(subscriber(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        // Behind a translator, as in a data centre with IPv6 only (RFC 7755).
        assert_eq!(subscriber(ip("64:ff9b::192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(subscriber(ip("2002:c000:201:7::1")), ip("192.0.2.1"));
        assert_ne!(
            subscriber(ip("2001:db8:1:2::1")),
            subscriber(ip("2001:db8:1:3::1"))
        );
    }

    #[test]
    fn a_site_is_an_ipv4_address_or_a_48() {
        assert_eq!(site(ip("192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(site(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1::"));
    }
}
