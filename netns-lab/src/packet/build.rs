//! Making packets.

use std::net::{IpAddr, SocketAddr};

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        IPV4_HEADER_LEN, IPV4_MIN_MTU, IPV6_HEADER_LEN, IPV6_MIN_MTU, Icmpv4DstUnreachable,
        Icmpv4Message, Icmpv4Packet, Icmpv6DstUnreachable, Icmpv6Message, Icmpv6Packet, IpProtocol,
        IpRepr, Ipv4Packet, Ipv6Packet, TCP_HEADER_LEN, TcpPacket, TcpSeqNumber, UDP_HEADER_LEN,
        UdpPacket,
    },
};

use super::{class::ICMP_HEADER, flow::Flow, tcp::Segment};

/// Hops that a packet may take: what RFC 1700 recommends, and Linux uses.
const HOP_LIMIT: u8 = 64;

/// The header of an ICMP or ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IcmpHeader {
    /// The type of message.
    kind: u8,
    /// The code within the type.
    code: u8,
    /// The rest of the header, behind the checksum.
    rest: [u8; 4],
}

impl IcmpHeader {
    /// Asks for an echo, or answers (RFC 792, RFC 4443 section 4).
    pub(crate) fn echo(ipv4: bool, is_request: bool, identifier: u16, sequence: u16) -> Self {
        let kind = match (ipv4, is_request) {
            (true, true) => Icmpv4Message::EchoRequest.into(),
            (true, false) => Icmpv4Message::EchoReply.into(),
            (false, true) => Icmpv6Message::EchoRequest.into(),
            (false, false) => Icmpv6Message::EchoReply.into(),
        };
        let ([a, b], [c, d]) = (identifier.to_be_bytes(), sequence.to_be_bytes());
        Self {
            kind,
            code: 0,
            rest: [a, b, c, d],
        }
    }

    /// Tells that a packet is longer than a link carries (RFC 1191 section 4, RFC 4443 section
    /// 3.2).
    pub(crate) fn too_big(ipv4: bool, mtu: u16) -> Self {
        let [high, low] = mtu.to_be_bytes();
        let header = if ipv4 {
            Self::unreachable_v4(Icmpv4DstUnreachable::FragRequired)
        } else {
            Self::v6(Icmpv6Message::PktTooBig, 0)
        };
        Self {
            rest: [0, 0, high, low],
            ..header
        }
    }

    /// Tells that nothing listens at a port (RFC 792, RFC 4443 section 3.1).
    pub(crate) fn port_unreachable(ipv4: bool) -> Self {
        if ipv4 {
            Self::unreachable_v4(Icmpv4DstUnreachable::PortUnreachable)
        } else {
            let code = Icmpv6DstUnreachable::PortUnreachable;
            Self::v6(Icmpv6Message::DstUnreachable, code.into())
        }
    }

    /// Tells that a packet is not let through (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1).
    pub(crate) fn prohibited(ipv4: bool) -> Self {
        if ipv4 {
            Self::unreachable_v4(Icmpv4DstUnreachable::CommProhibited)
        } else {
            let code = Icmpv6DstUnreachable::AdminProhibit;
            Self::v6(Icmpv6Message::DstUnreachable, code.into())
        }
    }

    fn unreachable_v4(code: Icmpv4DstUnreachable) -> Self {
        Self {
            kind: Icmpv4Message::DstUnreachable.into(),
            code: code.into(),
            rest: [0; 4],
        }
    }

    fn v6(kind: Icmpv6Message, code: u8) -> Self {
        Self {
            kind: kind.into(),
            code,
            rest: [0; 4],
        }
    }
}

/// Makes an ICMP error about a packet: no longer than what any host takes in one piece
/// (RFC 1812 section 4.3.2.3, RFC 4443 section 3.1).
pub(crate) fn icmp_error(what: IcmpHeader, about: &[u8], from: IpAddr, to: IpAddr) -> Vec<u8> {
    let room = if to.is_ipv4() {
        IPV4_MIN_MTU - IPV4_HEADER_LEN
    } else {
        IPV6_MIN_MTU - IPV6_HEADER_LEN
    };
    let quoted = about.len().min(room - ICMP_HEADER);
    icmp(what, &about[..quoted], from, to)
}

/// Makes an ICMP message with this behind its header. Both addresses are of one family.
pub(crate) fn icmp(what: IcmpHeader, data: &[u8], from: IpAddr, to: IpAddr) -> Vec<u8> {
    let protocol = match from {
        IpAddr::V4(_) => IpProtocol::Icmp,
        IpAddr::V6(_) => IpProtocol::Icmpv6,
    };
    let length = ICMP_HEADER + data.len();
    ip_packet(from, to, protocol, length, |message| {
        message[..2].copy_from_slice(&[what.kind, what.code]);
        message[4..ICMP_HEADER].copy_from_slice(&what.rest);
        message[ICMP_HEADER..].copy_from_slice(data);
        match (from, to) {
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                Icmpv6Packet::new_unchecked(message).fill_checksum(&from, &to);
            }
            (_, _) => Icmpv4Packet::new_unchecked(message).fill_checksum(),
        }
    })
}

/// Makes the answer to a packet that asks for an echo, with all that stands behind its
/// header (RFC 1122 section 3.2.2.6).
pub(crate) fn echo_reply(request: &Flow, packet: &[u8]) -> Vec<u8> {
    let (from, to) = (request.destination.ip(), request.source.ip());
    // It fits, since that was the field's width.
    let sequence = request.sequence as u16;
    let what = IcmpHeader::echo(from.is_ipv4(), false, request.identifier(), sequence);
    let data = packet.get(request.transport + ICMP_HEADER..);
    icmp(what, data.unwrap_or_default(), from, to)
}

/// Makes the reset for a SYN, as the closed port that it was for would (RFC 9293 section
/// 3.10.7.1).
pub(crate) fn reset(syn: &Segment) -> Vec<u8> {
    let (from, to) = (syn.flow.destination, syn.flow.source);
    let length = syn.payload as u32 + 1;
    let acknowledgement = syn.flow.sequence.wrapping_add(length).cast_signed();
    ip_packet(
        from.ip(),
        to.ip(),
        IpProtocol::Tcp,
        TCP_HEADER_LEN,
        |header| {
            let mut rst = TcpPacket::new_unchecked(header);
            rst.set_src_port(from.port());
            rst.set_dst_port(to.port());
            rst.set_ack_number(TcpSeqNumber(acknowledgement));
            rst.set_header_len(TCP_HEADER_LEN as u8);
            rst.set_rst(true);
            rst.set_ack(true);
            rst.fill_checksum(&from.ip().into(), &to.ip().into());
        },
    )
}

/// Makes a UDP datagram with this ECN codepoint. Both ends are of one family, and the
/// payload fits into one packet.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr, ecn: u8, payload: &[u8]) -> Vec<u8> {
    let length = UDP_HEADER_LEN + payload.len();
    let fill = |body: &mut [u8]| {
        let mut udp = UdpPacket::new_unchecked(body);
        udp.set_src_port(from.port());
        udp.set_dst_port(to.port());
        udp.set_len(length as u16);
        udp.payload_mut().copy_from_slice(payload);
        udp.fill_checksum(&from.ip().into(), &to.ip().into());
    };
    let mut packet = ip_packet(from.ip(), to.ip(), IpProtocol::Udp, length, fill);
    if from.is_ipv4() {
        let mut ip = Ipv4Packet::new_unchecked(&mut packet);
        ip.set_ecn(ecn);
        ip.fill_checksum();
    } else {
        Ipv6Packet::new_unchecked(&mut packet).set_traffic_class(ecn & 3);
    }
    packet
}

/// Makes an IP packet with a body of this length. Both addresses are of one family.
pub(crate) fn ip_packet(
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let header = IpRepr::new(from.into(), to.into(), protocol, length, HOP_LIMIT);
    let mut packet = vec![0; header.buffer_len()];
    header.emit(&mut packet, &ChecksumCapabilities::default());
    fill(&mut packet[header.header_len()..]);
    packet
}
