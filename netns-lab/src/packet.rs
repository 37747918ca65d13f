//! IP packets, read and written by way of smoltcp's `wire`. Malformed input never panics.
//!
//! [`Headers::read`] is the one reader. It reads whole packets, and what an ICMP error
//! quotes of one.

mod build;
mod class;
mod flags;
mod flow;
mod icmp;
mod rewrite;
mod tcp;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr};

use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, Icmpv4Packet, IpProtocol, IpVersion, Ipv4Packet, Ipv6Packet,
    TcpPacket, UDP_HEADER_LEN, UdpPacket, checksum,
};

pub(crate) use build::{IcmpHeader, echo_reply, icmp, icmp_error, ip_packet, reset, udp};
pub use flags::TcpFlags;
pub use flow::Protocol;
pub(crate) use flow::{End, Flow};
pub(crate) use icmp::{Icmp, IcmpContent};
pub(crate) use rewrite::rewrite_error;
pub(crate) use tcp::Segment;

/// An IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpHeader {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: IpProtocol,
    /// Bytes of the header.
    pub(crate) length: usize,
    /// Bytes of the packet, as the header says.
    pub(crate) total: usize,
    /// Whether this is a fragment of an IPv4 packet.
    pub(crate) is_fragment: bool,
    /// The ECN codepoint (RFC 3168 section 5).
    pub(crate) ecn: u8,
}

/// The headers of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Headers {
    pub(crate) ip: IpHeader,
    pub(crate) body: Body,
}

/// What an IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Tcp(Segment),
    Udp(Flow),
    Icmp(Icmp),
    Unread(Unread),
}

/// Why nothing behind an IP header was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// A header is cut off or contradicts itself.
    Malformed,
    /// It is a fragment.
    Fragment,
    /// It is of another protocol, or of the ICMP of the other IP version; the number.
    Protocol(u8),
    /// It is an ICMP message other than an echo, which has no ends with ports; its type.
    IcmpType(u8),
}

impl IpHeader {
    /// Reads an IP header, if it is complete and does not contradict itself. What is
    /// behind it may be cut off.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        packet.first()?;
        let header = match IpVersion::of_packet(packet).ok()? {
            IpVersion::Ipv4 => {
                packet.get(..IPV4_HEADER_LEN)?;
                let ip = Ipv4Packet::new_unchecked(packet);
                Self {
                    source: ip.src_addr().into(),
                    destination: ip.dst_addr().into(),
                    protocol: ip.next_header(),
                    length: ip.header_len().into(),
                    total: ip.total_len().into(),
                    is_fragment: ip.more_frags() || ip.frag_offset() != 0,
                    ecn: ip.ecn(),
                }
            }
            IpVersion::Ipv6 => {
                packet.get(..IPV6_HEADER_LEN)?;
                let ip = Ipv6Packet::new_unchecked(packet);
                Self {
                    source: ip.src_addr().into(),
                    destination: ip.dst_addr().into(),
                    protocol: ip.next_header(),
                    length: ip.header_len(),
                    total: ip.total_len(),
                    is_fragment: false,
                    ecn: ip.traffic_class() & 3,
                }
            }
        };
        let is_sound = header.length >= IPV4_HEADER_LEN
            && header.length <= header.total
            && header.length <= packet.len();
        is_sound.then_some(header)
    }

    /// Returns whether the packet is of the ICMP that belongs to its IP version.
    const fn is_icmp(&self) -> bool {
        match self.source {
            IpAddr::V4(_) => matches!(self.protocol, IpProtocol::Icmp),
            IpAddr::V6(_) => matches!(self.protocol, IpProtocol::Icmpv6),
        }
    }

    /// Returns whether the checksum that the header of IPv4 has is right.
    pub(crate) fn is_intact(&self, packet: &[u8]) -> bool {
        let header = packet.get(..self.length).unwrap_or_default();
        self.source.is_ipv6() || checksum::data(header) == !0
    }
}

impl Headers {
    /// Reads a packet, or nothing if it has no sound IP header or is shorter than that says.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let ip = IpHeader::read(packet)?;
        let packet = packet.get(..ip.total)?;
        let body = Body::read(&ip, packet).unwrap_or_else(Body::Unread);
        Some(Self { ip, body })
    }

    /// Returns whether the checksums of the packet that these are the headers of are
    /// right, as far as it was read.
    pub(crate) fn is_intact(&self, packet: &[u8]) -> bool {
        let Some(body) = packet.get(self.ip.length..self.ip.total) else {
            return false;
        };
        let covers_addresses = match self.body {
            Body::Unread(_) => return self.ip.is_intact(packet),
            // No checksum (RFC 768).
            Body::Udp(_) if UdpPacket::new_unchecked(body).checksum() == 0 => {
                return self.ip.is_intact(packet);
            }
            Body::Tcp(_) | Body::Udp(_) => true,
            // ICMP has no pseudo-header (RFC 792), ICMPv6 has (RFC 4443 section 2.3).
            Body::Icmp(_) => self.ip.source.is_ipv6(),
        };
        let pseudo = if covers_addresses {
            let (from, to) = (self.ip.source.into(), self.ip.destination.into());
            checksum::pseudo_header(&from, &to, self.ip.protocol, body.len() as u32)
        } else {
            0
        };
        self.ip.is_intact(packet) && checksum::combine(&[pseudo, checksum::data(body)]) == !0
    }

    /// Returns whether this is an ICMP error, about whatever.
    pub(crate) const fn is_icmp_error(&self) -> bool {
        match self.body {
            Body::Icmp(icmp) => matches!(icmp.content, IcmpContent::Error(_)),
            Body::Tcp(_) | Body::Udp(_) | Body::Unread(_) => false,
        }
    }
}

impl Body {
    fn read(ip: &IpHeader, packet: &[u8]) -> Result<Self, Unread> {
        if ip.is_fragment {
            return Err(Unread::Fragment);
        }
        let body = packet.get(ip.length..).unwrap_or_default();
        match ip.protocol {
            IpProtocol::Tcp => {
                let tcp = TcpPacket::new_checked(body).map_err(Unread::malformed)?;
                let flow = Flow::read(ip, 0, body)?;
                Ok(Self::Tcp(Segment::read(flow, &tcp)))
            }
            IpProtocol::Udp => {
                UdpPacket::new_checked(body).map_err(Unread::malformed)?;
                Flow::read(ip, 0, body).map(Self::Udp)
            }
            _ if ip.is_icmp() => {
                let icmp = Icmpv4Packet::new_checked(body).map_err(Unread::malformed)?;
                Ok(Self::Icmp(Icmp::read(ip, packet, &icmp)))
            }
            other => Err(Unread::Protocol(other.into())),
        }
    }
}

impl Unread {
    const fn malformed(_: smoltcp::wire::Error) -> Self {
        Self::Malformed
    }
}

impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.body {
            Body::Tcp(segment) => write!(f, "{segment}"),
            Body::Udp(flow) => {
                let payload = self.ip.total - self.ip.length - UDP_HEADER_LEN;
                write!(f, "{flow} udp len {payload}")
            }
            Body::Icmp(Icmp {
                kind,
                code,
                content,
                ..
            }) => match content {
                IcmpContent::Echo(flow) => write!(f, "{flow}"),
                IcmpContent::Error(Ok(flow)) => write!(f, "icmp {kind}/{code} about {flow}"),
                IcmpContent::Error(Err(_)) | IcmpContent::Other => write!(f, "{}", self.ip),
            },
            Body::Unread(_) => write!(f, "{}", self.ip),
        }
    }
}

impl fmt::Display for IpHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.source, self.destination)
    }
}
