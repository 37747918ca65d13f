//! ICMP and ICMPv6, whose messages begin alike (RFC 792, RFC 4443 section 2.1).

use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet,
};

use super::{
    IpHeader, Unread,
    class::{Class, ICMP_HEADER},
    flow::Flow,
};

/// An ICMP or ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Icmp {
    /// The type of message.
    pub(crate) kind: u8,
    /// The code within the type.
    pub(crate) code: u8,
    /// The longest packet that the path carries, of an error that tells.
    pub(crate) path_mtu: Option<u16>,
    pub(crate) content: IcmpContent,
}

/// What an ICMP message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IcmpContent {
    Echo(Flow),
    /// An error, with the packet that it quotes.
    Error(Result<Flow, Unread>),
    Other,
}

impl Icmp {
    /// Reads the ICMP message of a packet with this IP header.
    pub(super) fn read(ip: &IpHeader, packet: &[u8], icmp: &Icmpv4Packet<&[u8]>) -> Self {
        let body = icmp.as_ref();
        let content = match Class::of(ip, icmp.msg_type()) {
            Class::EchoRequest | Class::EchoReply => {
                Flow::read(ip, 0, body).map_or(IcmpContent::Other, IcmpContent::Echo)
            }
            Class::Error => IcmpContent::Error(quoted(ip, packet)),
            Class::Other => IcmpContent::Other,
        };
        Self {
            kind: icmp.msg_type().into(),
            code: icmp.msg_code(),
            path_mtu: path_mtu(ip, icmp),
            content,
        }
    }
}

/// Reads how long packets may be (RFC 1191 section 4, RFC 4443 section 3.2).
fn path_mtu(ip: &IpHeader, icmp: &Icmpv4Packet<&[u8]>) -> Option<u16> {
    let (kind, code) = (icmp.msg_type(), icmp.msg_code());
    if ip.source.is_ipv4() {
        let tells = kind == Icmpv4Message::DstUnreachable
            && code == Icmpv4DstUnreachable::FragRequired.into();
        let field = icmp.as_ref().get(6..8).filter(|_| tells)?;
        return Some(u16::from_be_bytes(field.try_into().ok()?));
    }
    if Icmpv6Message::from(u8::from(kind)) != Icmpv6Message::PktTooBig {
        return None;
    }
    let mtu = Icmpv6Packet::new_checked(icmp.as_ref())
        .ok()?
        .pkt_too_big_mtu();
    Some(u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// Reads what an ICMP error quotes, of which the end may be cut off.
fn quoted(outer: &IpHeader, packet: &[u8]) -> Result<Flow, Unread> {
    let start = outer.length + ICMP_HEADER;
    let quoted = packet.get(start..).ok_or(Unread::Malformed)?;
    let ip = IpHeader::read(quoted).ok_or(Unread::Malformed)?;
    if ip.source.is_ipv4() != outer.source.is_ipv4() {
        return Err(Unread::Malformed);
    }
    if ip.is_fragment {
        return Err(Unread::Fragment);
    }
    let transport = quoted.get(ip.length..).unwrap_or_default();
    Flow::read(&ip, start, transport)
}
