//! Flows: the endpoints of packets, and of those that ICMP errors quote.

use std::net::{IpAddr, SocketAddr};

use super::be16;
use super::header::{End, Header, TCP, UDP, set_address};
use crate::checksum;
use crate::model::verdict::DropReason;

/// Bytes of an ICMP header: of an error, before the packet it quotes (RFC 792, RFC 4443
/// section 3), and of an echo (section 4).
const ICMP_HEADER: usize = 8;

/// Bytes of the transport header that an ICMP error surely quotes (RFC 792).
const QUOTED_TRANSPORT: usize = 8;

/// Length of a UDP header, and the least of a TCP header.
const UDP_HEADER: usize = 8;
pub(super) const TCP_HEADER: usize = 20;

/// Where the identifier of an echo stands in its ICMP header (RFC 792, RFC 4443
/// section 4).
const ECHO_IDENTIFIER: usize = 4;

/// What a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 echo. The identifier of a request and its reply is the port of
    /// the end that asks (RFC 5508 section 3.1); the end that answers has port 0.
    Echo,
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
    /// Where the port of the source stands, if it has one.
    pub(in crate::model) source_port: Option<usize>,
    /// The same of the destination.
    pub(in crate::model) destination_port: Option<usize>,
}

impl Protocol {
    /// Returns the protocol of a packet with this body.
    fn of(header: &Header, body: &[u8]) -> Result<Self, DropReason> {
        match header.protocol {
            TCP => Ok(Self::Tcp),
            UDP => Ok(Self::Udp),
            _ if header.is_icmp() => {
                let kind = *body.first().ok_or(DropReason::Malformed)?;
                let is_echo = header.echo_request() == kind || header.echo_reply() == kind;
                is_echo
                    .then_some(Self::Echo)
                    .ok_or(DropReason::IcmpType(kind))
            }
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
        let body = bytes.get(header.length..).ok_or(DropReason::Malformed)?;
        let protocol = Protocol::of(header, body)?;
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
            Protocol::Echo if body.len() < ICMP_HEADER => return Err(DropReason::Malformed),
            Protocol::Echo => Flags::default(),
        };
        Self::at(bytes, header, 0, protocol, flags).ok_or(DropReason::Malformed)
    }

    /// Reads what an ICMP error quotes, of which the end may be cut off.
    pub(super) fn quoted(bytes: &[u8], outer: &Header) -> Result<Self, DropReason> {
        let at = outer.length + ICMP_HEADER;
        let quoted = bytes.get(at..).ok_or(DropReason::Malformed)?;
        let header = Header::read(quoted).ok_or(DropReason::Malformed)?;
        let body = quoted.get(header.length..).unwrap_or_default();
        if header.source.is_ipv4() != outer.source.is_ipv4() || body.len() < QUOTED_TRANSPORT {
            return Err(DropReason::Malformed);
        }
        if header.fragment {
            return Err(DropReason::Fragment);
        }
        let protocol = Protocol::of(&header, body)?;
        Self::at(bytes, &header, at, protocol, Flags::default()).ok_or(DropReason::Malformed)
    }

    /// Reads the endpoints of the packet whose IP header starts at `ip`.
    fn at(
        bytes: &[u8],
        header: &Header,
        ip: usize,
        protocol: Protocol,
        flags: Flags,
    ) -> Option<Self> {
        let transport = ip + header.length;
        let (source_port, destination_port) = match protocol {
            Protocol::Tcp | Protocol::Udp => (Some(transport), Some(transport + 2)),
            Protocol::Echo if *bytes.get(transport)? == header.echo_request() => {
                (Some(transport + ECHO_IDENTIFIER), None)
            }
            Protocol::Echo => (None, Some(transport + ECHO_IDENTIFIER)),
        };
        let port = |at: Option<usize>| at.map_or(Some(0), |at| be16(bytes, at));
        Some(Self {
            protocol,
            source: SocketAddr::new(header.source, port(source_port)?),
            destination: SocketAddr::new(header.destination, port(destination_port)?),
            flags,
            ip,
            transport,
            source_port,
            destination_port,
        })
    }

    /// Returns whether this asks for an echo.
    pub(in crate::model) fn is_echo_request(&self) -> bool {
        self.protocol == Protocol::Echo && self.source_port.is_some()
    }

    /// Writes an end, and corrects the checksums that cover it.
    pub(super) fn rewrite(&self, bytes: &mut [u8], end: End, to: SocketAddr) {
        let (port_at, from) = match end {
            End::Source => (self.source_port, self.source),
            End::Destination => (self.destination_port, self.destination),
        };
        set_address(bytes, self.ip, end, to.ip());
        if let Some(at) = port_at {
            bytes[at..at + 2].copy_from_slice(&to.port().to_be_bytes());
        }
        let field = self.transport
            + match self.protocol {
                Protocol::Tcp => 16,
                Protocol::Udp => 6,
                Protocol::Echo => 2,
            };
        // A quoted TCP header often ends before its checksum.
        let Some(old) = be16(bytes, field) else {
            return;
        };
        if self.protocol == Protocol::Udp && old == checksum::ABSENT {
            return;
        }
        let covered = |endpoint| self.covered(endpoint, port_at.is_some());
        let mut new = checksum::update(old, &covered(from), &covered(to));
        if self.protocol == Protocol::Udp && new == checksum::ABSENT {
            // The other zero of ones' complement (RFC 768).
            new = !checksum::ABSENT;
        }
        bytes[field..field + 2].copy_from_slice(&new.to_be_bytes());
    }

    /// Returns what the checksum covers of an endpoint.
    fn covered(&self, endpoint: SocketAddr, has_port: bool) -> Vec<u8> {
        let mut octets = match endpoint.ip() {
            // ICMP has no pseudo-header (RFC 792), ICMPv6 has (RFC 4443 section 2.3).
            IpAddr::V4(_) if self.protocol == Protocol::Echo => Vec::new(),
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        if has_port {
            octets.extend(endpoint.port().to_be_bytes());
        }
        octets
    }
}
