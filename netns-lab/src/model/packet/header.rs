//! IP headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{array, be16};
use crate::checksum;

/// IP protocol numbers (RFC 790, RFC 4443 section 1).
const ICMP: u8 = 1;
pub(in crate::model) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Length of an IPv4 header without options (RFC 791 section 3.1).
const IPV4_HEADER: usize = 20;

/// Length of an IPv6 header (RFC 8200 section 3).
const IPV6_HEADER: usize = 40;

/// Where the addresses of an IPv6 header start.
pub(super) const IPV6_ADDRESSES: usize = 8;

/// Which end of a packet is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum End {
    Source,
    Destination,
}

/// An IP header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) length: usize,
    pub(super) total: usize,
    pub(super) fragment: bool,
}

impl Header {
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
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

    /// Returns whether the packet is of the ICMP that belongs to its IP version.
    pub(super) const fn is_icmp(&self) -> bool {
        matches!(
            (self.protocol, self.source.is_ipv4()),
            (ICMP, true) | (ICMPV6, false)
        )
    }

    /// Returns whether an ICMP message of this type is an error.
    pub(super) const fn is_error(&self, kind: u8) -> bool {
        // RFC 792: unreachable, time exceeded, parameter problem; RFC 4443
        // section 2.1: errors are the types below 128.
        match self.source {
            IpAddr::V4(_) => matches!(kind, 3 | 11 | 12),
            IpAddr::V6(_) => matches!(kind, 1..128),
        }
    }

    /// Returns the type of an echo request (RFC 792, RFC 4443 section 4.1).
    pub(super) const fn echo_request(&self) -> u8 {
        if self.source.is_ipv4() { 8 } else { 128 }
    }

    /// Returns the type of an echo reply (RFC 792, RFC 4443 section 4.2).
    pub(super) const fn echo_reply(&self) -> u8 {
        if self.source.is_ipv4() { 0 } else { 129 }
    }
}

/// Writes an address, and corrects the header checksum that IPv4 has.
pub(super) fn set_address(bytes: &mut [u8], ip: usize, end: End, to: IpAddr) {
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
