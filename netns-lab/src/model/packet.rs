//! The packets that a box carries.

use crate::packet::{Body, Flow, Headers, IcmpContent, IpHeader, Unread};

use super::verdict::DropReason;

/// What a packet is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Flow(Flow),
    /// An ICMP error, with the flow of the packet that it quotes.
    IcmpError(Flow),
}

/// A packet on its way through a box, without what may stand behind its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    /// The header that it came with.
    pub(super) ip: IpHeader,
    /// What it was about when it came.
    pub(super) content: Content,
}

impl Packet {
    /// Reads a packet, or says why it cannot pass.
    pub(super) fn read(packet: &[u8]) -> Result<Self, DropReason> {
        let Headers { ip, body } = Headers::read(packet).ok_or(DropReason::Malformed)?;
        let bytes = packet.get(..ip.total).ok_or(DropReason::Malformed)?;
        if !ip.is_intact(bytes) {
            return Err(DropReason::HeaderChecksum);
        }
        let content = match body {
            Body::Tcp(segment) => Content::Flow(segment.flow),
            Body::Udp(flow) => Content::Flow(flow),
            Body::Icmp(icmp) => match icmp.content {
                IcmpContent::Echo(flow) => Content::Flow(flow),
                IcmpContent::Error(quoted) => Content::IcmpError(quoted?),
                IcmpContent::Other => return Err(DropReason::IcmpType(icmp.kind)),
            },
            Body::Unread(unread) => return Err(unread.into()),
        };
        Ok(Self {
            bytes: bytes.to_vec(),
            ip,
            content,
        })
    }
}

impl From<Unread> for DropReason {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Malformed => Self::Malformed,
            Unread::Fragment => Self::Fragment,
            Unread::Protocol(number) => Self::Protocol(number),
            Unread::IcmpType(kind) => Self::IcmpType(kind),
        }
    }
}
