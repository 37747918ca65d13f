use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// Returns an IPv4 address as it is, and of an IPv6 address the bits in `mask`.
fn cut(ip: IpAddr, mask: u128) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Tells whether an address means something only inside some network, so that nobody on the
/// Internet at large can be hit through it.
///
/// The documentation ranges (RFC 5737, RFC 3849) are not among these on purpose: laboratories
/// use them as the Internet's addresses, and in real life they lead nowhere.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || is_behind_carrier(v4),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Shared address space (RFC 6598) and the inner end of DS-Lite (RFC 6333 section 5.7).
fn is_behind_carrier(ip: Ipv4Addr) -> bool {
    let [a, b, c, d] = ip.octets();
    (a == 100 && b & 0b1100_0000 == 64) || ([a, b, c] == [192, 0, 0] && d < 8)
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

    #[test]
    fn ranges_end_where_the_rfcs_say() {
        for local in [
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
        ] {
            assert!(is_local(ip(local)), "{local}");
        }
        for global in [
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.0",
            "192.0.0.8",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "2001:db8::1",
            "64:ff9b::a00:1",
            "240.0.0.1",
        ] {
            assert!(!is_local(ip(global)), "{global}");
        }
    }
}
