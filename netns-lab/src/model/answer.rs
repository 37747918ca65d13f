//! The packets that a box itself sends in answer to a SYN.

use std::net::IpAddr;

use super::packet::{Flow, Packet, TCP, be32};
use crate::build::{IcmpKind, icmp_error, ip_packet, pseudo_header};
use crate::checksum;

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
    let ipv4 = packet.source.is_ipv4();
    let kind = IcmpKind {
        kind: if ipv4 { 3 } else { 1 },
        code: why.code(ipv4),
        rest: [0; 4],
    };
    icmp_error(kind, &packet.bytes, from, packet.source)
}
