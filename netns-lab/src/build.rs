//! Making packets.

use std::net::IpAddr;

use crate::checksum;

/// IP protocol numbers (RFC 790, RFC 4443 section 1).
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Length of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header (RFC 8200 section 3).
const IPV6_HEADER: usize = 40;

/// Bytes before the quoted packet in an ICMP error (RFC 792, RFC 4443 section 3).
const ICMP_HEADER: usize = 8;

/// Hops that a packet may take: what RFC 1700 recommends, and Linux uses.
const HOP_LIMIT: u8 = 64;

/// Most bytes of an ICMP error: what any host takes in one piece (RFC 1812
/// section 4.3.2.3, RFC 4443 section 3.1).
const MAX_ERROR_V4: usize = 576;
const MAX_ERROR_V6: usize = 1280;

/// The header of an ICMP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IcmpKind {
    /// The type of message.
    pub(crate) kind: u8,
    /// The code within the type.
    pub(crate) code: u8,
    /// The rest of the header, behind the checksum.
    pub(crate) rest: [u8; 4],
}

impl IcmpKind {
    /// Asks for an echo, or answers (RFC 792, RFC 4443 section 4).
    pub(crate) const fn echo(ipv4: bool, is_request: bool, identifier: u16, sequence: u16) -> Self {
        let kind = match (ipv4, is_request) {
            (true, true) => 8,
            (true, false) => 0,
            (false, true) => 128,
            (false, false) => 129,
        };
        let ([a, b], [c, d]) = (identifier.to_be_bytes(), sequence.to_be_bytes());
        Self {
            kind,
            code: 0,
            rest: [a, b, c, d],
        }
    }

    /// Tells that a packet is longer than a link carries (RFC 1191 section 4,
    /// RFC 4443 section 3.2).
    pub(crate) const fn too_big(ipv4: bool, mtu: u16) -> Self {
        let [high, low] = mtu.to_be_bytes();
        let (kind, code) = if ipv4 { (3, 4) } else { (2, 0) };
        Self {
            kind,
            code,
            rest: [0, 0, high, low],
        }
    }
}

/// Makes an ICMP error about a packet.
pub(crate) fn icmp_error(what: IcmpKind, about: &[u8], from: IpAddr, to: IpAddr) -> Vec<u8> {
    let room = if to.is_ipv4() {
        MAX_ERROR_V4 - IPV4_HEADER
    } else {
        MAX_ERROR_V6 - IPV6_HEADER
    };
    let quoted = about.len().min(room - ICMP_HEADER);
    icmp(what, &about[..quoted], from, to)
}

/// Makes an ICMP message with this behind its header.
pub(crate) fn icmp(what: IcmpKind, data: &[u8], from: IpAddr, to: IpAddr) -> Vec<u8> {
    let mut message = vec![what.kind, what.code, 0, 0];
    message.extend(what.rest);
    message.extend(data);
    let (protocol, pseudo) = match to {
        IpAddr::V4(_) => (ICMP, Vec::new()),
        // RFC 4443 section 2.3.
        IpAddr::V6(_) => (ICMPV6, pseudo_header(from, to, ICMPV6, message.len())),
    };
    let sum = checksum::compute(&[&pseudo, &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip_packet(from, to, protocol, &message)
}

/// Puts an IP header before a body that is shorter than the longest packet.
pub(crate) fn ip_packet(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    // It is, as the caller promises.
    let length = body.len() as u16;
    let mut packet = match from {
        IpAddr::V4(_) => {
            let total = (length + IPV4_HEADER as u16).to_be_bytes();
            let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0];
            header.extend([HOP_LIMIT, protocol, 0, 0]);
            header
        }
        IpAddr::V6(_) => {
            let length = length.to_be_bytes();
            vec![0x60, 0, 0, 0, length[0], length[1], protocol, HOP_LIMIT]
        }
    };
    packet.extend(address(from));
    packet.extend(address(to));
    if from.is_ipv4() {
        let sum = checksum::compute(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend(body);
    packet
}

/// Returns the pseudo-header of a checksum (RFC 9293 section 3.1, RFC 8200
/// section 8.1); for IPv4 in an order and width of the same sum.
pub(crate) fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut header = address(from);
    header.extend(address(to));
    header.extend((length as u32).to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
