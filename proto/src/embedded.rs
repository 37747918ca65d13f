//! IPv4 addresses inside IPv6 addresses.
//!
//! Translators and tunnels lead some IPv6 addresses to a node with IPv4. Judged by its outer form
//! alone, such an address is a public one whatever is inside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Returns an IPv4 address that is mapped into IPv6 as the one that it is. Any other address stays
/// as it is, with its zone (RFC 4007 section 11), which a socket of this machine needs.
#[must_use]
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    let mapped = match address {
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped(),
        SocketAddr::V4(_) => None,
    };
    mapped.map_or(address, |ip| (ip, address.port()).into())
}

/// Returns what an address says to other machines, which is what is sent and what is compared: an
/// IPv4 address that is mapped into IPv6 as the one that it is, and no zone or flow label.
#[must_use]
pub fn portable(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns the address of the node that an address stands for: the IPv4 address inside if it has a
/// form that leads there for everybody, else the address itself.
///
/// These are IPv4-mapped addresses (RFC 4291 section 2.5.5.2), the well-known prefix of NAT64 (RFC
/// 6052 section 2.1), and 6to4 (RFC 3056 section 2). A network may have another prefix for its
/// NAT64, which only those in it know.
#[must_use]
pub fn represented(ip: IpAddr) -> IpAddr {
    let canonical = ip.to_canonical();
    let IpAddr::V6(v6) = canonical else {
        return canonical;
    };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into()
        }
        _ => canonical,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use super::*;

    #[test]
    fn only_an_address_for_this_machine_keeps_its_zone() {
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let in_zone = |ip, flow, zone| SocketAddr::from(SocketAddrV6::new(ip, 7, flow, zone));
        let here = in_zone(link_local, 0, 3);
        assert_eq!(unmapped(here), here);
        assert_eq!(
            portable(in_zone(link_local, 9, 3)),
            in_zone(link_local, 0, 0)
        );
        let v4 = SocketAddr::from(([192, 0, 2, 1], 7));
        let mapped = in_zone(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), 0, 0);
        assert_eq!([unmapped(mapped), portable(mapped)], [v4; 2]);
        assert_eq!([unmapped(v4), portable(v4)], [v4; 2]);
    }

    #[test]
    fn the_address_inside_counts_where_everybody_is_led_there() {
        for form in [
            "192.0.2.33",
            "::ffff:192.0.2.33",
            "64:ff9b::192.0.2.33",
            "2002:c000:221::1",
            "2002:c000:221:ffff:ffff:ffff:ffff:ffff",
        ] {
            let found = represented(form.parse().unwrap());
            assert_eq!(found, IpAddr::from([192, 0, 2, 33]), "{form}");
        }
        for other in [
            "2001:db8::c000:221",
            "64:ff9b::1:c000:221",
            "64:ff9b:1::c000:221",
            "64:ff9a::c000:221",
            "2003:c000:221::1",
            "::192.0.2.33",
            "fe80::1",
        ] {
            let other = other.parse().unwrap();
            assert_eq!(represented(other), other);
        }
    }
}
