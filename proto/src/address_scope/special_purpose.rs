//! The IANA special-purpose address registries (RFC 6890), as data.
//!
//! What may be a destination and is not globally reachable leads to a host in some network. What
//! may be no destination leads nowhere, and an anycast address of a protocol to whichever server of
//! that is near: neither is an address that a peer can have.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::AddressScope::{self, Global, Local, Loopback, Nobody};

/// The addresses that begin with the same bits, so many, one at least.
type Block<A> = (A, u8, AddressScope);

/// The blocks of IPv4, smaller ones before those that they are in. The documentation ranges
/// (RFC 5737) and those of AS112 and AMT are left out, as ordinary addresses.
const IPV4: [Block<Ipv4Addr>; 13] = [
    // "This network" (RFC 1122 section 3.2.1.3).
    (Ipv4Addr::new(0, 0, 0, 0), 8, Nobody),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Local),
    // Behind a carrier's NAT (RFC 6598).
    (Ipv4Addr::new(100, 64, 0, 0), 10, Local),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Local),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Local),
    // The inner end of DS-Lite (RFC 6333 section 5.7) and of 464XLAT (RFC 7335).
    (Ipv4Addr::new(192, 0, 0, 0), 29, Local),
    // The rest for protocols, with the anycast addresses of PCP and TURN.
    (Ipv4Addr::new(192, 0, 0, 0), 24, Nobody),
    // The anycast relays of 6to4 (RFC 7526).
    (Ipv4Addr::new(192, 88, 99, 0), 24, Nobody),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Local),
    // Benchmarks (RFC 2544), and what some proxies on a machine give to names.
    (Ipv4Addr::new(198, 18, 0, 0), 15, Local),
    // Multicast, which another registry has.
    (Ipv4Addr::new(224, 0, 0, 0), 4, Nobody),
    // Reserved (RFC 1112 section 4), and limited broadcast.
    (Ipv4Addr::new(240, 0, 0, 0), 4, Nobody),
];

/// The blocks of IPv6, likewise; the documentation ranges (RFC 3849, RFC 9637) are left out. What
/// has an IPv4 address inside is judged before. The rest of the address space counts as global (RFC
/// 4291 section 2.4), assigned or not.
const IPV6: [Block<Ipv6Addr>; 17] = [
    (Ipv6Addr::LOCALHOST, 128, Loopback),
    (Ipv6Addr::UNSPECIFIED, 128, Nobody),
    // Translators inside a network (RFC 8215). Where in it the IPv4 address is, only those in that
    // network know.
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, Local),
    // Discarded (RFC 6666), and for nobody (RFC 9780).
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 63, Nobody),
    // Benchmarks (RFC 5180).
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48, Local),
    // AMT (RFC 7450).
    (Ipv6Addr::new(0x2001, 3, 0, 0, 0, 0, 0, 0), 32, Global),
    // AS112 (RFC 7535).
    (Ipv6Addr::new(0x2001, 4, 0x112, 0, 0, 0, 0, 0), 48, Global),
    // ORCHIDv2 (RFC 7343) and DETs of drones (RFC 9374).
    (Ipv6Addr::new(0x2001, 0x20, 0, 0, 0, 0, 0, 0), 28, Global),
    (Ipv6Addr::new(0x2001, 0x30, 0, 0, 0, 0, 0, 0), 28, Global),
    // The rest for protocols (RFC 2928), with Teredo and the anycast addresses of PCP and TURN.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Nobody),
    // Segment identifiers (RFC 9602).
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, Local),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Local),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Local),
    // Site-local, deprecated and still to be found (RFC 3879 section 4).
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, Local),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Nobody),
    // IPv4-compatible addresses (RFC 4291 section 2.5.5.1), and what only translators used (RFC
    // 2765 section 2.1).
    (Ipv6Addr::UNSPECIFIED, 96, Nobody),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96, Nobody),
];

/// Returns where an IPv4 address leads.
pub(crate) fn of_v4(ip: Ipv4Addr) -> AddressScope {
    let is_in = |(first, bits, _): &&Block<Ipv4Addr>| {
        let host_bits = 32 - u32::from(*bits);
        (first.to_bits() ^ ip.to_bits()) >> host_bits == 0
    };
    IPV4.iter()
        .find(is_in)
        .map_or(Global, |(_, _, scope)| *scope)
}

/// Returns where an IPv6 address leads that has no IPv4 address inside.
pub(crate) fn of_v6(ip: Ipv6Addr) -> AddressScope {
    let is_in = |(first, bits, _): &&Block<Ipv6Addr>| {
        let host_bits = 128 - u32::from(*bits);
        (first.to_bits() ^ ip.to_bits()) >> host_bits == 0
    };
    IPV6.iter()
        .find(is_in)
        .map_or(Global, |(_, _, scope)| *scope)
}
