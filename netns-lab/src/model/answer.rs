//! The packets that a box itself sends in answer to a SYN.

use std::net::IpAddr;

use super::checksum;
use super::packet::{Flow, ICMP, ICMP_HEADER, ICMPV6, IPV4_HEADER, IPV6_HEADER, Packet, TCP, be32};

/// Hops that an answer may take: what RFC 1700 recommends, and Linux uses.
const HOP_LIMIT: u8 = 64;

/// Most bytes of an ICMP error: what any host takes in one piece (RFC 1812
/// section 4.3.2.3, RFC 4443 section 3.1).
const MAX_ERROR_V4: usize = 576;
const MAX_ERROR_V6: usize = 1280;

/// Length of a TCP header without options.
const TCP_HEADER: usize = 20;

/// The flags RST and ACK.
const RST_ACK: u8 = 0x14;

/// An ICMP "destination unreachable".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreachable {
    Prohibited,
    Port,
}

impl Unreachable {
    /// Returns the code: RFC 1812 section 5.2.7.1 and RFC 792, RFC 4443 section 3.1.
    const fn code(self, ipv4: bool) -> u8 {
        match (self, ipv4) {
            (Self::Prohibited, true) => 13,
            (Self::Prohibited, false) => 1,
            (Self::Port, true) => 3,
            (Self::Port, false) => 4,
        }
    }
}

/// Makes the reset for a SYN, as the closed port that it was for would (RFC 9293
/// section 3.10.7.1).
pub(super) fn rst(syn: &Packet, flow: &Flow) -> Vec<u8> {
    let segment = &syn.bytes[syn.body..];
    // The packet was read: its TCP header is complete.
    let header = segment
        .get(12)
        .map_or(TCP_HEADER, |byte| usize::from(byte >> 4) * 4);
    let length = segment.len().saturating_sub(header) as u32 + 1;
    let sequence = be32(segment, 4).unwrap_or_default();
    let mut rst = [0; TCP_HEADER];
    rst[..2].copy_from_slice(&flow.destination.port().to_be_bytes());
    rst[2..4].copy_from_slice(&flow.source.port().to_be_bytes());
    rst[8..12].copy_from_slice(&sequence.wrapping_add(length).to_be_bytes());
    rst[12] = (TCP_HEADER as u8 / 4) << 4;
    rst[13] = RST_ACK;
    let (from, to) = (flow.destination.ip(), flow.source.ip());
    let sum = checksum::compute(&[&pseudo_header(from, to, TCP, TCP_HEADER), &rst]);
    rst[16..18].copy_from_slice(&sum.to_be_bytes());
    ip_packet(from, to, TCP, &rst)
}

/// Makes the ICMP error for a packet, from an address of the box.
pub(super) fn unreachable(packet: &Packet, why: Unreachable, from: IpAddr) -> Vec<u8> {
    let to = packet.source;
    let (kind, protocol, room) = if to.is_ipv4() {
        (3, ICMP, MAX_ERROR_V4 - IPV4_HEADER)
    } else {
        (1, ICMPV6, MAX_ERROR_V6 - IPV6_HEADER)
    };
    let mut error = vec![0; ICMP_HEADER];
    error[0] = kind;
    error[1] = why.code(to.is_ipv4());
    error.extend(packet.bytes.iter().take(room - ICMP_HEADER));
    let pseudo = match protocol {
        ICMP => Vec::new(),
        _ => pseudo_header(from, to, protocol, error.len()),
    };
    let sum = checksum::compute(&[&pseudo, &error]);
    error[2..4].copy_from_slice(&sum.to_be_bytes());
    ip_packet(from, to, protocol, &error)
}

fn ip_packet(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    // Bodies are shorter than the largest error.
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
fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
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
