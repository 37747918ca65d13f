//! The ends of a packet, or of one that an ICMP error quotes.

use std::{fmt, net::SocketAddr};

use smoltcp::wire::{Icmpv4Packet, IpProtocol, TcpPacket, UdpPacket};

use super::{IpHeader, Unread, class::Class, flags::TcpFlags};

/// Bytes of a transport header that an ICMP error surely quotes (RFC 792).
const QUOTED_TRANSPORT: usize = 8;

/// A protocol whose packets have ends that a NAT can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 echo. The identifier of a request and its reply is the port of the end that
    /// asks (RFC 5508 section 3.1); the end that answers has port 0.
    Echo,
}

/// An end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// What the first eight bytes of a transport header say, and where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) protocol: Protocol,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// The sequence number of a segment or an echo; zero in UDP.
    pub(crate) sequence: u32,
    /// None are set in UDP, in echoes and in quoted packets.
    pub(crate) flags: TcpFlags,
    /// Whether this asks for an echo.
    pub(crate) is_echo_request: bool,
    /// Where the IP header starts.
    pub(super) ip: usize,
    /// Where the transport header starts.
    pub(super) transport: usize,
}

impl End {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

impl Flow {
    /// Reads the transport header behind the IP header that starts at `start`.
    pub(super) fn read(ip: &IpHeader, start: usize, transport: &[u8]) -> Result<Self, Unread> {
        if transport.len() < QUOTED_TRANSPORT {
            return Err(Unread::Malformed);
        }
        let mut is_echo_request = false;
        let (protocol, ports, sequence) = match ip.protocol {
            IpProtocol::Tcp => {
                let tcp = TcpPacket::new_unchecked(transport);
                let sequence = tcp.seq_number().0.cast_unsigned();
                (Protocol::Tcp, [tcp.src_port(), tcp.dst_port()], sequence)
            }
            IpProtocol::Udp => {
                let udp = UdpPacket::new_unchecked(transport);
                (Protocol::Udp, [udp.src_port(), udp.dst_port()], 0)
            }
            _ if ip.is_icmp() => {
                let icmp = Icmpv4Packet::new_unchecked(transport);
                let identifier = icmp.echo_ident();
                let class = Class::of(ip, icmp.msg_type());
                let ports = match class {
                    Class::EchoRequest => [identifier, 0],
                    Class::EchoReply => [0, identifier],
                    Class::Error | Class::Other => {
                        return Err(Unread::IcmpType(icmp.msg_type().into()));
                    }
                };
                is_echo_request = class == Class::EchoRequest;
                (Protocol::Echo, ports, icmp.echo_seq_no().into())
            }
            other => return Err(Unread::Protocol(other.into())),
        };
        Ok(Self {
            protocol,
            source: SocketAddr::new(ip.source, ports[0]),
            destination: SocketAddr::new(ip.destination, ports[1]),
            sequence,
            flags: TcpFlags::default(),
            is_echo_request,
            ip: start,
            transport: start + ip.length,
        })
    }

    /// Returns one of its ends.
    pub(crate) const fn end(&self, end: End) -> SocketAddr {
        match end {
            End::Source => self.source,
            End::Destination => self.destination,
        }
    }

    /// Returns the same with another end.
    pub(crate) const fn with_end(mut self, end: End, to: SocketAddr) -> Self {
        match end {
            End::Source => self.source = to,
            End::Destination => self.destination = to,
        }
        self
    }

    /// Returns whether an end has a port, or the identifier of an echo in its place.
    pub(super) fn has_port(&self, end: End) -> bool {
        match self.protocol {
            Protocol::Tcp | Protocol::Udp => true,
            Protocol::Echo => self.is_echo_request == (end == End::Source),
        }
    }

    /// Returns what the UDP datagram that this was read from carries.
    pub(crate) fn datagram<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        let udp = packet.get(self.transport..).unwrap_or_default();
        UdpPacket::new_checked(udp).map_or(&[], |it| it.payload())
    }

    /// Returns the identifier of an echo.
    pub(crate) const fn identifier(&self) -> u16 {
        if self.is_echo_request {
            self.source.port()
        } else {
            self.destination.port()
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp | Protocol::Udp => write!(f, "{} > {}", self.source, self.destination),
            Protocol::Echo => {
                let what = if self.is_echo_request {
                    "request"
                } else {
                    "reply"
                };
                let (source, destination) = (self.source.ip(), self.destination.ip());
                let (identifier, sequence) = (self.identifier(), self.sequence);
                write!(
                    f,
                    "{source} > {destination} echo {what} id {identifier} seq {sequence}"
                )
            }
        }
    }
}
