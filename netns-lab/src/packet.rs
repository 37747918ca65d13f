//! What the ground itself reads in packets. Malformed input never panics.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::wire::{Ipv4Packet, TcpPacket};

use crate::build::{IcmpKind, icmp, pseudo_header};
use crate::checksum;

/// IP protocol numbers (RFC 790, RFC 4443 section 1).
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// Length of an IPv6 header (RFC 8200 section 3).
const IPV6_HEADER: usize = 40;

/// Bytes before the quoted packet in an ICMP error (RFC 792, RFC 4443 section 3).
const ICMP_HEADER: usize = 8;

/// What a packet carries, as far as a host cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Tcp(Segment),
    Echo(Echo),
    /// An ICMP error about a TCP segment.
    Error(IcmpError),
    /// An ICMP error about an echo, with its type and code.
    EchoError(Echo, (u8, u8)),
    Other,
}

/// An ICMP or ICMPv6 echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Whether it asks, or answers.
    pub(crate) is_request: bool,
    pub(crate) identifier: u16,
    pub(crate) sequence: u16,
}

/// The header of a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) payload: usize,
    flags: u8,
}

/// An ICMP error about a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IcmpError {
    /// The source of the segment that the error is about.
    pub(crate) source: SocketAddr,
    /// Its destination.
    pub(crate) destination: SocketAddr,
    /// Its sequence number.
    pub(crate) sequence: u32,
    /// The type of message.
    pub(crate) kind: u8,
    /// The code within the type.
    pub(crate) code: u8,
}

impl Segment {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const PSH: u8 = 8;
    const ACK: u8 = 16;

    /// Returns whether this is a SYN without ACK.
    pub(crate) const fn is_syn(&self) -> bool {
        self.flags & (Self::SYN | Self::ACK | Self::RST) == Self::SYN
    }

    /// Returns whether this is a SYN with ACK.
    pub(crate) const fn is_syn_ack(&self) -> bool {
        self.flags & (Self::SYN | Self::ACK | Self::RST) == Self::SYN | Self::ACK
    }

    /// Returns whether this ends its direction of the connection.
    pub(crate) const fn is_fin(&self) -> bool {
        self.flags & Self::FIN != 0
    }

    /// Returns whether this is a reset.
    pub(crate) const fn is_rst(&self) -> bool {
        self.flags & Self::RST != 0
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} ", self.source, self.destination)?;
        let names = [
            (Self::SYN, 'S'),
            (Self::FIN, 'F'),
            (Self::RST, 'R'),
            (Self::PSH, 'P'),
            (Self::ACK, '.'),
        ];
        for (_, name) in names.iter().filter(|(bit, _)| self.flags & bit != 0) {
            write!(f, "{name}")?;
        }
        let (sequence, acknowledgement) = (self.sequence, self.acknowledgement);
        write!(
            f,
            " seq {sequence} ack {acknowledgement} len {}",
            self.payload
        )
    }
}

impl fmt::Display for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_request { "request" } else { "reply" };
        let (identifier, sequence) = (self.identifier, self.sequence);
        write!(
            f,
            "{} > {} echo {what} id {identifier} seq {sequence}",
            self.source, self.destination
        )
    }
}

impl fmt::Display for IcmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, code) = (self.kind, self.code);
        write!(
            f,
            "icmp {kind}/{code} about {} > {}",
            self.source, self.destination
        )
    }
}

/// The IP header of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpHeader {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    protocol: u8,
    length: usize,
}

impl IpHeader {
    /// Reads an IP header; what follows it may be cut off, as in an ICMP error.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let address = |at: usize| -> Option<IpAddr> {
                    let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
                    Some(Ipv4Addr::from(bytes).into())
                };
                Some(Self {
                    source: address(12)?,
                    destination: address(16)?,
                    protocol: *packet.get(9)?,
                    length: usize::from(packet.first()? & 15) * 4,
                })
            }
            6 => {
                let address = |at: usize| -> Option<IpAddr> {
                    let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                    Some(Ipv6Addr::from(bytes).into())
                };
                Some(Self {
                    source: address(8)?,
                    destination: address(24)?,
                    protocol: *packet.get(6)?,
                    length: IPV6_HEADER,
                })
            }
            _ => None,
        }
    }
}

impl IpHeader {
    /// Returns what an ICMP error quotes, if this is the header of one.
    fn quoted<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        let kind = *body.first()?;
        // RFC 792: unreachable, time exceeded, parameter problem; RFC 4443
        // section 2.1: errors are the types below 128.
        let is_error = match self.protocol {
            ICMP => matches!(kind, 3 | 11 | 12),
            ICMPV6 => matches!(kind, 1..128),
            _ => false,
        };
        body.get(ICMP_HEADER..).filter(|_| is_error)
    }
}

impl Content {
    /// Reads a packet, or nothing if it is no IP packet or cut off.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let header = IpHeader::read(packet)?;
        let body = packet.get(header.length..)?;
        match header.protocol {
            TCP => Segment::read(&header, body).map(Self::Tcp),
            ICMP | ICMPV6 => Some(Self::read_icmp(&header, body).unwrap_or(Self::Other)),
            _ => Some(Self::Other),
        }
    }

    fn read_icmp(header: &IpHeader, body: &[u8]) -> Option<Self> {
        if let Some(echo) = Echo::read(header, body) {
            return Some(Self::Echo(echo));
        }
        let (kind, code) = (*body.first()?, *body.get(1)?);
        let quoted = header.quoted(body)?;
        let inner = IpHeader::read(quoted)?;
        let transport = quoted.get(inner.length..)?;
        match inner.protocol {
            TCP => IcmpError::read(&inner, transport, kind, code).map(Self::Error),
            _ => Echo::read(&inner, transport).map(|echo| Self::EchoError(echo, (kind, code))),
        }
    }
}

/// Returns whether a packet is an ICMP error, about whatever.
pub(crate) fn is_icmp_error(packet: &[u8]) -> bool {
    IpHeader::read(packet).is_some_and(|header| {
        let body = packet.get(header.length..).unwrap_or_default();
        header.quoted(body).is_some()
    })
}

/// Returns whether the checksum of an ICMP packet is right.
pub(crate) fn is_intact_icmp(packet: &[u8]) -> bool {
    IpHeader::read(packet).is_some_and(|header| {
        let body = packet.get(header.length..).unwrap_or_default();
        let (from, to) = (header.source, header.destination);
        let pseudo = match header.protocol {
            ICMPV6 => pseudo_header(from, to, ICMPV6, body.len()),
            _ => Vec::new(),
        };
        checksum::compute(&[&pseudo, body]) == 0
    })
}

impl Echo {
    fn read(header: &IpHeader, body: &[u8]) -> Option<Self> {
        let is_request = match (header.protocol, *body.first()?) {
            // RFC 792; RFC 4443 section 4.
            (ICMP, 8) | (ICMPV6, 128) => true,
            (ICMP, 0) | (ICMPV6, 129) => false,
            _ => return None,
        };
        Some(Self {
            source: header.source,
            destination: header.destination,
            is_request,
            identifier: be16(body, 4)?,
            sequence: be16(body, 6)?,
        })
    }

    /// Returns the answer to a packet that asks for an echo (RFC 1122 section
    /// 3.2.2.6): with all that stands behind its header.
    pub(crate) fn reply(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let header = IpHeader::read(packet)?;
        let data = packet.get(header.length + ICMP_HEADER..)?;
        let ipv4 = self.source.is_ipv4();
        let what = IcmpKind::echo(ipv4, false, self.identifier, self.sequence);
        Some(icmp(what, data, self.destination, self.source))
    }
}

impl Segment {
    fn read(header: &IpHeader, body: &[u8]) -> Option<Self> {
        let offset = usize::from(*body.get(12)? >> 4) * 4;
        Some(Self {
            source: SocketAddr::new(header.source, be16(body, 0)?),
            destination: SocketAddr::new(header.destination, be16(body, 2)?),
            sequence: be32(body, 4)?,
            acknowledgement: be32(body, 8)?,
            payload: body.len().checked_sub(offset)?,
            flags: *body.get(13)?,
        })
    }
}

impl IcmpError {
    /// Reads what an error of this type and code quotes: RFC 792 promises no more
    /// than eight bytes of the segment.
    fn read(inner: &IpHeader, segment: &[u8], kind: u8, code: u8) -> Option<Self> {
        Some(Self {
            source: SocketAddr::new(inner.source, be16(segment, 0)?),
            destination: SocketAddr::new(inner.destination, be16(segment, 2)?),
            sequence: be32(segment, 4)?,
            kind,
            code,
        })
    }
}

fn be16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn be32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

/// Returns whether the checksums of a TCP packet are right.
pub(crate) fn is_intact(packet: &[u8]) -> bool {
    let Some(header) = IpHeader::read(packet) else {
        return false;
    };
    let ip = header.source.is_ipv6()
        || Ipv4Packet::new_checked(packet).is_ok_and(|packet| packet.verify_checksum());
    let body = packet.get(header.length..).unwrap_or_default();
    ip && TcpPacket::new_checked(body).is_ok_and(|segment| {
        segment.verify_checksum(&header.source.into(), &header.destination.into())
    })
}

/// Returns a SYN-ACK as the plain ACK that it also is.
pub(crate) fn without_syn(packet: &[u8]) -> Option<Vec<u8>> {
    let header = IpHeader::read(packet)?;
    let mut packet = packet.to_vec();
    let mut segment = TcpPacket::new_checked(packet.get_mut(header.length..)?).ok()?;
    segment.set_syn(false);
    segment.set_seq_number(segment.seq_number() + 1);
    segment.fill_checksum(&header.source.into(), &header.destination.into());
    Some(packet)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(
            version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
            protocol in prop_oneof![Just(TCP), Just(ICMP), Just(ICMPV6), any::<u8>()],
            mut packet in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            for (at, value) in [(0, version), (6, protocol), (9, protocol)] {
                if let Some(byte) = packet.get_mut(at) {
                    *byte = value;
                }
            }
            Content::read(&packet);
            is_intact(&packet);
            without_syn(&packet);
            is_icmp_error(&packet);
            is_intact_icmp(&packet);
            if let Some(Content::Echo(echo)) = Content::read(&packet) {
                echo.reply(&packet);
            }
        }
    }
}
