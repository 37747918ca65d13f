//! ICMP and ICMPv6, whose messages begin alike (RFC 792, RFC 4443 section 2.1).

use smoltcp::wire::Icmpv4Packet;

use super::class::{Class, ICMP_HEADER};
use super::flow::Flow;
use super::{IpHeader, Unread};

/// An ICMP or ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Icmp {
    /// The type of message.
    pub(crate) kind: u8,
    /// The code within the type.
    pub(crate) code: u8,
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
            content,
        }
    }
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
