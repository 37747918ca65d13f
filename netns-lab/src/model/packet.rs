//! IP packets as the box reads and rewrites them. Malformed input never panics.

mod flow;
mod header;

use std::net::{IpAddr, SocketAddr};

use super::verdict::DropReason;
use crate::checksum;
use flow::TCP_HEADER;
use header::{Header, IPV6_ADDRESSES, set_address};

pub use flow::Protocol;
pub(super) use flow::{Flags, Flow};
pub(super) use header::{End, TCP};

/// Kinds of TCP options (RFC 9293 section 3.2, RFC 7323 section 2.2).
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_WINDOW_SCALE: u8 = 3;

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
        let kind = bytes.get(header.length);
        let content = if header.is_icmp() && kind.is_some_and(|kind| header.is_error(*kind)) {
            Content::IcmpError(Flow::quoted(bytes, &header)?)
        } else {
            Content::Flow(Flow::read(bytes, &header)?)
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
        flow.rewrite(&mut self.bytes, end, to);
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
        quoted.rewrite(&mut self.bytes, end, to);
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

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}
