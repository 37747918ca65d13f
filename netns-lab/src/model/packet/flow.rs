//! Flows: the endpoints of packets, and of those that ICMP errors quote.

use std::net::{IpAddr, SocketAddr};

use super::be16;
use super::header::{End, Header, ICMP, TCP, UDP, set_address};
use crate::checksum;
use crate::model::verdict::DropReason;

/// Bytes of an ICMP error before the packet it quotes (RFC 792, RFC 4443 section 3).
const ICMP_HEADER: usize = 8;

/// Bytes of the transport header that an ICMP error surely quotes (RFC 792).
const QUOTED_TRANSPORT: usize = 8;

/// Length of a UDP header, and the least of a TCP header.
const UDP_HEADER: usize = 8;
pub(super) const TCP_HEADER: usize = 20;

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The flags of a TCP header that make a difference to the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::model) struct Flags(u8);

/// The endpoints of a packet, and where they stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) struct Flow {
    pub(in crate::model) protocol: Protocol,
    pub(in crate::model) source: SocketAddr,
    pub(in crate::model) destination: SocketAddr,
    /// None set in UDP and in quoted packets.
    pub(in crate::model) flags: Flags,
    /// Where the IP header starts.
    pub(in crate::model) ip: usize,
    /// Where the transport header starts.
    pub(in crate::model) transport: usize,
}

impl Protocol {
    const fn of(header: &Header) -> Result<Self, DropReason> {
        match header.protocol {
            TCP => Ok(Self::Tcp),
            UDP => Ok(Self::Udp),
            other => Err(DropReason::Protocol(other)),
        }
    }
}

impl Flags {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;

    /// Returns whether this starts a connection: a SYN without ACK.
    pub(in crate::model) const fn is_syn(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }

    pub(in crate::model) const fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    pub(in crate::model) const fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    pub(in crate::model) const fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    pub(in crate::model) const fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Returns whether only an existing connection would send this.
    pub(in crate::model) const fn is_midstream(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::ACK
    }
}

impl Flow {
    /// Reads the flow of a packet.
    pub(super) fn read(bytes: &[u8], header: &Header) -> Result<Self, DropReason> {
        let protocol = Protocol::of(header)?;
        let body = bytes.get(header.length..).ok_or(DropReason::Malformed)?;
        let flags = match protocol {
            Protocol::Tcp => {
                let offset = body.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
                if offset < TCP_HEADER || offset > body.len() {
                    return Err(DropReason::Malformed);
                }
                Flags(body[13])
            }
            Protocol::Udp => {
                let length = be16(body, 4).map_or(0, usize::from);
                if length < UDP_HEADER || length > body.len() {
                    return Err(DropReason::Malformed);
                }
                Flags::default()
            }
        };
        Self::at(bytes, header, 0, protocol, flags).ok_or(DropReason::Malformed)
    }

    /// Reads what an ICMP error quotes, of which the end may be cut off.
    pub(super) fn quoted(bytes: &[u8], outer: &Header) -> Result<Self, DropReason> {
        let kind = *bytes.get(outer.length).ok_or(DropReason::Malformed)?;
        // RFC 792: unreachable, time exceeded, parameter problem; RFC 4443
        // section 2.1: errors are the types below 128.
        let is_error = match outer.protocol {
            ICMP => matches!(kind, 3 | 11 | 12),
            _ => matches!(kind, 1..128),
        };
        if !is_error {
            return Err(DropReason::Protocol(outer.protocol));
        }
        let at = outer.length + ICMP_HEADER;
        let quoted = bytes.get(at..).ok_or(DropReason::Malformed)?;
        let header = Header::read(quoted).ok_or(DropReason::Malformed)?;
        if header.source.is_ipv4() != outer.source.is_ipv4()
            || quoted.len() < header.length + QUOTED_TRANSPORT
        {
            return Err(DropReason::Malformed);
        }
        if header.fragment {
            return Err(DropReason::Fragment);
        }
        let protocol = Protocol::of(&header)?;
        Self::at(bytes, &header, at, protocol, Flags::default()).ok_or(DropReason::Malformed)
    }

    fn at(
        bytes: &[u8],
        header: &Header,
        ip: usize,
        protocol: Protocol,
        flags: Flags,
    ) -> Option<Self> {
        let transport = ip + header.length;
        Some(Self {
            protocol,
            source: SocketAddr::new(header.source, be16(bytes, transport)?),
            destination: SocketAddr::new(header.destination, be16(bytes, transport + 2)?),
            flags,
            ip,
            transport,
        })
    }

    /// Writes an end, and corrects the checksums that cover it.
    pub(super) fn rewrite(&self, bytes: &mut [u8], end: End, to: SocketAddr) {
        let (port_at, from) = match end {
            End::Source => (self.transport, self.source),
            End::Destination => (self.transport + 2, self.destination),
        };
        set_address(bytes, self.ip, end, to.ip());
        bytes[port_at..port_at + 2].copy_from_slice(&to.port().to_be_bytes());
        let field = self.transport
            + match self.protocol {
                Protocol::Tcp => 16,
                Protocol::Udp => 6,
            };
        // A quoted TCP header often ends before its checksum.
        let Some(old) = be16(bytes, field) else {
            return;
        };
        if self.protocol == Protocol::Udp && old == checksum::ABSENT {
            return;
        }
        let mut new = checksum::update(old, &octets(from), &octets(to));
        if self.protocol == Protocol::Udp && new == checksum::ABSENT {
            // The other zero of ones' complement (RFC 768).
            new = !checksum::ABSENT;
        }
        bytes[field..field + 2].copy_from_slice(&new.to_be_bytes());
    }
}

/// Returns an endpoint as the checksum sees it.
fn octets(endpoint: SocketAddr) -> Vec<u8> {
    let mut octets = match endpoint.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    octets.extend(endpoint.port().to_be_bytes());
    octets
}
