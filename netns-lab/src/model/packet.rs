//! IP packets as the box reads and rewrites them. Malformed input never panics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::verdict::DropReason;
use crate::checksum;

/// IP protocol numbers (RFC 790, RFC 4443 section 1).
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

/// Length of an IPv4 header without options (RFC 791 section 3.1).
pub(super) const IPV4_HEADER: usize = 20;

/// Length of an IPv6 header (RFC 8200 section 3).
pub(super) const IPV6_HEADER: usize = 40;

/// Where the addresses of an IPv6 header start.
const IPV6_ADDRESSES: usize = 8;

/// Bytes of an ICMP error before the packet it quotes (RFC 792, RFC 4443 section 3).
pub(super) const ICMP_HEADER: usize = 8;

/// Bytes of the transport header that an ICMP error surely quotes (RFC 792).
const QUOTED_TRANSPORT: usize = 8;

/// Length of a UDP header, and the least of a TCP header.
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;

/// Kinds of TCP options (RFC 9293 section 3.2, RFC 7323 section 2.2).
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_WINDOW_SCALE: u8 = 3;

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
pub(super) struct Flags(u8);

/// Which end of a flow is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// The endpoints of a packet, and where they stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) protocol: Protocol,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// None set in UDP and in quoted packets.
    pub(super) flags: Flags,
    /// Where the IP header starts.
    pub(super) ip: usize,
    /// Where the transport header starts.
    pub(super) transport: usize,
}

/// What a packet is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Flow(Flow),
    /// An ICMP error, with the flow of the packet that it quotes.
    IcmpError(Flow),
}

/// A packet that has been read, without what may stand behind its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) content: Content,
    /// Where the transport or ICMP header starts.
    pub(super) body: usize,
}

/// An IP header.
#[derive(Debug, Clone, Copy)]
struct Header {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
    total: usize,
    fragment: bool,
}

impl Flags {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;

    /// Returns whether this starts a connection: a SYN without ACK.
    pub(super) const fn is_syn(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }

    pub(super) const fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    pub(super) const fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    pub(super) const fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    pub(super) const fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Returns whether only an existing connection would send this.
    pub(super) const fn is_midstream(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::ACK
    }
}

impl Header {
    fn read(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::read_ipv4(packet),
            6 => Some(Self {
                source: Ipv6Addr::from(array::<16>(packet, IPV6_ADDRESSES)?).into(),
                destination: Ipv6Addr::from(array::<16>(packet, 24)?).into(),
                protocol: *packet.get(6)?,
                length: IPV6_HEADER,
                total: IPV6_HEADER + usize::from(be16(packet, 4)?),
                fragment: false,
            }),
            _ => None,
        }
    }

    fn read_ipv4(packet: &[u8]) -> Option<Self> {
        let length = usize::from(*packet.first()? & 15) * 4;
        // The flag "more fragments" and the fragment offset (RFC 791 section 3.1).
        let fragment = be16(packet, 6)? & 0x3FFF != 0;
        let header = Self {
            source: Ipv4Addr::from(array::<4>(packet, 12)?).into(),
            destination: Ipv4Addr::from(array::<4>(packet, 16)?).into(),
            protocol: *packet.get(9)?,
            length,
            total: usize::from(be16(packet, 2)?),
            fragment,
        };
        (length >= IPV4_HEADER && packet.len() >= length && header.total >= length)
            .then_some(header)
    }

    fn transport(&self) -> Result<Protocol, DropReason> {
        match self.protocol {
            TCP => Ok(Protocol::Tcp),
            UDP => Ok(Protocol::Udp),
            other => Err(DropReason::Protocol(other)),
        }
    }
}

impl Packet {
    /// Reads a packet, or says why it cannot pass.
    pub(super) fn read(packet: &[u8]) -> Result<Self, DropReason> {
        let header = Header::read(packet).ok_or(DropReason::Malformed)?;
        let bytes = packet.get(..header.total).ok_or(DropReason::Malformed)?;
        if header.source.is_ipv4() && checksum::compute(&[&bytes[..header.length]]) != 0 {
            return Err(DropReason::HeaderChecksum);
        }
        if header.fragment {
            return Err(DropReason::Fragment);
        }
        let content = match (header.protocol, header.source.is_ipv4()) {
            (ICMP, true) | (ICMPV6, false) => Content::IcmpError(quoted_flow(bytes, &header)?),
            _ => Content::Flow(read_flow(bytes, &header)?),
        };
        Ok(Self {
            bytes: bytes.to_vec(),
            source: header.source,
            destination: header.destination,
            content,
            body: header.length,
        })
    }

    /// Rewrites an end of a flow that is not quoted (RFC 3022 section 4.1).
    pub(super) fn translate(&mut self, flow: &Flow, end: End, to: SocketAddr) {
        rewrite(&mut self.bytes, flow, end, to);
        match end {
            End::Source => self.source = to.ip(),
            End::Destination => self.destination = to.ip(),
        }
        if let Content::Flow(own) = &mut self.content {
            match end {
                End::Source => own.source = to,
                End::Destination => own.destination = to,
            }
        }
    }

    /// Returns whether this is UDP with an ECN mark (RFC 3168 section 5).
    pub(super) fn is_marked_udp(&self) -> bool {
        let is_udp = matches!(self.content, Content::Flow(flow) if flow.protocol == Protocol::Udp);
        // The last two bits of the traffic class, which begins behind the version in IPv6.
        let class = match self.source {
            IpAddr::V4(_) => self.bytes[1],
            IpAddr::V6(_) => self.bytes[1] >> 4,
        };
        is_udp && class & 3 != 0
    }

    /// Overwrites the window scale option of a SYN with NOPs (RFC 9293 section 3.1),
    /// and corrects the checksum.
    pub(super) fn strip_window_scale(&mut self) {
        let Content::Flow(flow) = self.content else {
            return;
        };
        if flow.protocol != Protocol::Tcp || !flow.flags.syn() {
            return;
        }
        let header = flow.transport + usize::from(self.bytes[flow.transport + 12] >> 4) * 4;
        let mut at = flow.transport + TCP_HEADER;
        while at < header {
            match (self.bytes[at], self.bytes.get(at + 1)) {
                (OPTION_END, _) => return,
                (OPTION_NOP, _) => at += 1,
                (OPTION_WINDOW_SCALE, Some(&length)) if at + usize::from(length) <= header => {
                    return self.overwrite(flow.transport + 16, at..at + usize::from(length));
                }
                (_, Some(&length)) if length >= 2 => at += usize::from(length),
                (_, _) => return,
            }
        }
    }

    /// Puts NOPs over a part of the packet that a checksum field covers.
    fn overwrite(&mut self, field: usize, part: std::ops::Range<usize>) {
        // Both words of a part must be whole, as the checksum counts them.
        let words = part.start & !1..part.end.next_multiple_of(2);
        let before = self.bytes[words.clone()].to_vec();
        self.bytes[part].fill(OPTION_NOP);
        let old = be16(&self.bytes, field).unwrap_or_default();
        let new = checksum::update(old, &before, &self.bytes[words]);
        self.bytes[field..field + 2].copy_from_slice(&new.to_be_bytes());
    }

    /// Rewrites an ICMP error: one end of the quoted flow, and the address of
    /// the error itself that goes with it (RFC 3022 section 4.3).
    pub(super) fn translate_error(&mut self, quoted: &Flow, end: End, to: SocketAddr) {
        // ICMPv6 covers its own addresses as well (RFC 4443 section 2.3).
        let covered = match self.source {
            IpAddr::V4(_) => self.body,
            IpAddr::V6(_) => IPV6_ADDRESSES,
        };
        let before = self.bytes[covered..].to_vec();
        rewrite(&mut self.bytes, quoted, end, to);
        // The quoted packet went the other way.
        match end {
            End::Source => {
                set_address(&mut self.bytes, 0, End::Destination, to.ip());
                self.destination = to.ip();
            }
            End::Destination => {
                set_address(&mut self.bytes, 0, End::Source, to.ip());
                self.source = to.ip();
            }
        }
        let field = self.body + 2;
        let old = be16(&self.bytes, field).unwrap_or_default();
        let new = checksum::update(old, &before, &self.bytes[covered..]);
        self.bytes[field..field + 2].copy_from_slice(&new.to_be_bytes());
    }
}

fn read_flow(bytes: &[u8], header: &Header) -> Result<Flow, DropReason> {
    let protocol = header.transport()?;
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
    flow_at(bytes, header, 0, protocol, flags).ok_or(DropReason::Malformed)
}

/// Reads what an ICMP error quotes, of which the end may be cut off.
fn quoted_flow(bytes: &[u8], outer: &Header) -> Result<Flow, DropReason> {
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
    let protocol = header.transport()?;
    flow_at(bytes, &header, at, protocol, Flags::default()).ok_or(DropReason::Malformed)
}

fn flow_at(
    bytes: &[u8],
    header: &Header,
    ip: usize,
    protocol: Protocol,
    flags: Flags,
) -> Option<Flow> {
    let transport = ip + header.length;
    Some(Flow {
        protocol,
        source: SocketAddr::new(header.source, be16(bytes, transport)?),
        destination: SocketAddr::new(header.destination, be16(bytes, transport + 2)?),
        flags,
        ip,
        transport,
    })
}

/// Writes an end of a flow, and corrects the checksums that cover it.
fn rewrite(bytes: &mut [u8], flow: &Flow, end: End, to: SocketAddr) {
    let (port_at, from) = match end {
        End::Source => (flow.transport, flow.source),
        End::Destination => (flow.transport + 2, flow.destination),
    };
    set_address(bytes, flow.ip, end, to.ip());
    bytes[port_at..port_at + 2].copy_from_slice(&to.port().to_be_bytes());
    let field = flow.transport
        + match flow.protocol {
            Protocol::Tcp => 16,
            Protocol::Udp => 6,
        };
    // A quoted TCP header often ends before its checksum.
    let Some(old) = be16(bytes, field) else {
        return;
    };
    if flow.protocol == Protocol::Udp && old == checksum::ABSENT {
        return;
    }
    let mut new = checksum::update(old, &octets(from), &octets(to));
    if flow.protocol == Protocol::Udp && new == checksum::ABSENT {
        // The other zero of ones' complement (RFC 768).
        new = !checksum::ABSENT;
    }
    bytes[field..field + 2].copy_from_slice(&new.to_be_bytes());
}

/// Writes an address, and corrects the header checksum that IPv4 has.
fn set_address(bytes: &mut [u8], ip: usize, end: End, to: IpAddr) {
    let is_source = end == End::Source;
    match to {
        IpAddr::V4(to) => {
            let at = ip + if is_source { 12 } else { 16 };
            let old = array::<4>(bytes, at).unwrap_or_default();
            bytes[at..at + 4].copy_from_slice(&to.octets());
            let field = be16(bytes, ip + 10).unwrap_or_default();
            let new = checksum::update(field, &old, &to.octets());
            bytes[ip + 10..ip + 12].copy_from_slice(&new.to_be_bytes());
        }
        IpAddr::V6(to) => {
            let at = ip + IPV6_ADDRESSES + if is_source { 0 } else { 16 };
            bytes[at..at + 16].copy_from_slice(&to.octets());
        }
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

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}
