//! Trains: segments of one TCP stream that leave by one device at one moment, handed
//! over as one packet.
//!
//! Drivers of network cards do the same for their hosts (Linux calls it GRO): it costs
//! the kernel little more than one segment does, and a host acknowledges once. The
//! record has each segment as it came, and a box of the kernel's divides the packet
//! again where it leaves.

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::wires::Due;
use crate::build::pseudo_header;
use crate::checksum;
use crate::packet_socket::{Division, Outgoing};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const TCP: u8 = 6;
const FLAG_PUSH: u8 = 8;
const FLAG_ACK: u8 = 16;

/// Longest packet, which is also what its length field can say.
const MAX_LENGTH: usize = 65_535;

/// Packets that are handed over as one.
#[derive(Debug)]
pub(super) struct Train<'a> {
    /// At least one, all for the same device.
    due: &'a [Due],
    /// What takes the place of their headers, if there are several.
    joined: Option<Joined>,
}

/// The headers of several segments in one, for the kernel to divide again.
#[derive(Debug)]
struct Joined {
    /// IP and TCP, with the sum of the pseudo-header for a checksum.
    header: Vec<u8>,
    division: Division,
}

/// A packet that may have others behind it, or before.
#[derive(Debug, Clone, Copy)]
struct Car<'a> {
    packet: &'a [u8],
    transport: usize,
    payload: usize,
}

impl<'a> Train<'a> {
    /// Divides packets that are due into trains.
    pub(super) fn all(mut due: &'a [Due]) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            let train = Self::first(due)?;
            due = &due[train.len()..];
            Some(train)
        })
    }

    fn first(due: &'a [Due]) -> Option<Self> {
        let device = due.first()?.device;
        let cars = due.iter().take_while(|due| due.device == device);
        let mut cars = cars.map_while(|due| Car::read(&due.packet));
        let Some(head) = cars.next() else {
            return Some(Self::alone(due));
        };
        let (mut last, mut length, mut count) = (head, head.packet.len(), 1);
        for car in cars {
            length += car.data();
            if !car.follows(&last, &head) || length > MAX_LENGTH {
                length -= car.data();
                break;
            }
            last = car;
            count += 1;
        }
        if count == 1 {
            return Some(Self::alone(due));
        }
        Some(Self {
            due: &due[..count],
            joined: Some(head.join(&last, length)),
        })
    }

    fn alone(due: &'a [Due]) -> Self {
        Self {
            due: &due[..1],
            joined: None,
        }
    }

    /// Returns how many packets it is made of.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// Returns it as one packet.
    pub(super) fn outgoing(&self) -> Outgoing<'_> {
        let link = self.due[0].device;
        let Some(joined) = &self.joined else {
            return Outgoing {
                link,
                parts: vec![&self.due[0].packet],
                division: None,
            };
        };
        // All have headers of this length.
        let data = usize::from(joined.division.data);
        let parts = self.due.iter().map(|due| &due.packet[data..]);
        Outgoing {
            link,
            parts: std::iter::once(&*joined.header).chain(parts).collect(),
            division: Some(joined.division),
        }
    }
}

impl<'a> Car<'a> {
    /// Reads a segment that only brings data, and is undamaged.
    fn read(packet: &'a [u8]) -> Option<Self> {
        Self::at(packet).filter(|car| car.only_brings_data() && car.is_intact())
    }

    fn at(packet: &'a [u8]) -> Option<Self> {
        let (transport, length, protocol) = match packet.first()? {
            0x45 => (IPV4_HEADER, usize::from(be16(packet, 2)?), *packet.get(9)?),
            first if first >> 4 == 6 => (
                IPV6_HEADER,
                IPV6_HEADER + usize::from(be16(packet, 4)?),
                *packet.get(6)?,
            ),
            _ => return None,
        };
        let payload = transport + usize::from(packet.get(transport + 12)? >> 4) * 4;
        let is_whole = length == packet.len() && payload >= transport + TCP_HEADER;
        (protocol == TCP && is_whole && payload < length).then_some(Self {
            packet,
            transport,
            payload,
        })
    }

    fn data(&self) -> usize {
        self.packet.len() - self.payload
    }

    fn flags(&self) -> u8 {
        self.packet[self.transport + 13]
    }

    fn only_brings_data(&self) -> bool {
        let reserved = self.packet[self.transport + 12] & 15;
        // More fragments, or an offset.
        let is_fragment = self.transport == IPV4_HEADER
            && be16(self.packet, 6).is_none_or(|word| word & 0x3FFF != 0);
        reserved == 0 && !is_fragment && self.flags() & !FLAG_PUSH == FLAG_ACK
    }

    /// A damaged segment must not become whole by being joined.
    fn is_intact(&self) -> bool {
        let (from, to) = self.addresses();
        let segment = &self.packet[self.transport..];
        let pseudo = pseudo_header(from, to, TCP, segment.len());
        let is_ipv4 = self.transport == IPV4_HEADER;
        checksum::compute(&[&pseudo, segment]) == 0
            && (!is_ipv4 || checksum::compute(&[&self.packet[..IPV4_HEADER]]) == 0)
    }

    fn addresses(&self) -> (IpAddr, IpAddr) {
        let at = |range: Range<usize>| -> IpAddr {
            let bytes = &self.packet[range];
            match <[u8; 4]>::try_from(bytes) {
                Ok(v4) => Ipv4Addr::from(v4).into(),
                Err(_) => <[u8; 16]>::try_from(bytes)
                    .map_or(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from)
                    .into(),
            }
        };
        if self.transport == IPV4_HEADER {
            (at(12..16), at(16..20))
        } else {
            (at(8..24), at(24..40))
        }
    }

    fn sequence(&self) -> u32 {
        let at = self.transport + 4;
        let bytes = self
            .packet
            .get(at..at + 4)
            .and_then(|it| it.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    }

    /// Whether this goes on where the last of a train ends, and differs from it in
    /// nothing else. In a train all but the last have as much data as the head.
    fn follows(&self, last: &Self, head: &Self) -> bool {
        let (one, other) = (self.packet, last.packet);
        let transport = self.transport;
        // Of the headers, all but lengths, the number of the packet, checksums, sequence
        // number and flags; those have been looked at.
        let same: &[Range<usize>] = match transport {
            IPV4_HEADER => &[0..2, 6..10, 12..24, 28..33, 34..36, 38..self.payload],
            _ => &[0..4, 6..44, 48..53, 54..56, 58..self.payload],
        };
        transport == last.transport
            && self.payload == last.payload
            && last.data() == head.data()
            && last.flags() & FLAG_PUSH == 0
            && self.data() <= head.data()
            && self.sequence() == last.sequence().wrapping_add(last.data() as u32)
            && same
                .iter()
                .all(|range| one[range.clone()] == other[range.clone()])
    }

    /// Returns the headers of a train of so many bytes.
    fn join(&self, last: &Self, length: usize) -> Joined {
        let mut header = self.packet[..self.payload].to_vec();
        let transport = self.transport;
        header[transport + 13] |= last.flags();
        if transport == IPV4_HEADER {
            // It fits, as was seen to.
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            header[10..12].fill(0);
            let sum = checksum::compute(&[&header[..IPV4_HEADER]]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            let body = (length - IPV6_HEADER) as u16;
            header[4..6].copy_from_slice(&body.to_be_bytes());
        }
        let (from, to) = self.addresses();
        let pseudo = pseudo_header(from, to, TCP, length - transport);
        let sum = !checksum::compute(&[&pseudo]);
        header[transport + 16..transport + 18].copy_from_slice(&sum.to_be_bytes());
        // Headers and data are shorter than a packet.
        let division = Division {
            transport: transport as u16,
            data: self.payload as u16,
            segment: self.data() as u16,
        };
        Joined { header, division }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
