//! Trains: segments of one TCP stream that leave by one device at one moment, handed over as one
//! packet.
//!
//! Drivers of network cards do the same for their hosts (Linux calls it GRO): it costs the kernel
//! little more than one segment does, and a host acknowledges once. The record has each segment as
//! it came, and a box of the kernel's divides the packet again where it leaves.

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;

use smoltcp::wire::{
    IPV4_HEADER_LEN, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber, checksum,
};

use super::wires::Due;
use crate::{
    packet::{Body, Headers, IpHeader, Segment},
    packet_socket::{Division, Outgoing},
};

/// Longest packet, which is also what its length field can say.
const MAX_LENGTH: usize = 65_535;

/// Bytes of the longest headers: of IPv6, and of TCP with all options that it has room for.
const MAX_HEADERS: usize = 40 + 60;

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
    ip: IpHeader,
    segment: Segment,
    /// Its headers, without what may differ within a train.
    common: [u8; MAX_HEADERS],
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
    /// Reads a segment that only brings data, and is undamaged: a damaged one must not
    /// become whole by being joined.
    fn read(packet: &'a [u8]) -> Option<Self> {
        let headers = Headers::read(packet)?;
        let Headers {
            ip,
            body: Body::Tcp(segment),
        } = headers
        else {
            return None;
        };
        let has_ip_options = ip.source.is_ipv4() && ip.length != IPV4_HEADER_LEN;
        let only_brings_data = segment.payload > 0 && segment.flow.flags.only_acknowledges();
        let is_whole = ip.total == packet.len();
        if has_ip_options || !only_brings_data || !is_whole || !headers.is_intact(packet) {
            return None;
        }
        let mut car = Self {
            packet,
            ip,
            segment,
            common: [0; MAX_HEADERS],
        };
        let length = car.headers();
        car.common[..length].copy_from_slice(&packet[..length]);
        car.forget_differences();
        Some(car)
    }

    /// Blanks lengths, the number of the packet, checksums, the sequence number and PSH.
    fn forget_differences(&mut self) {
        let (header, segment) = self.common.split_at_mut(self.ip.length);
        if self.ip.source.is_ipv4() {
            let mut ip = Ipv4Packet::new_unchecked(header);
            ip.set_total_len(0);
            ip.set_ident(0);
            ip.set_checksum(0);
        } else {
            Ipv6Packet::new_unchecked(header).set_payload_len(0);
        }
        let mut tcp = TcpPacket::new_unchecked(segment);
        tcp.set_seq_number(TcpSeqNumber(0));
        tcp.set_checksum(0);
        tcp.set_psh(false);
    }

    /// Returns the bytes before its data.
    fn headers(&self) -> usize {
        self.ip.length + self.segment.header
    }

    fn data(&self) -> usize {
        self.segment.payload
    }

    /// Whether this goes on where the last of a train ends, and differs from it in
    /// nothing else. In a train all but the last have as much data as the head.
    fn follows(&self, last: &Self, head: &Self) -> bool {
        let end = last.segment.flow.sequence.wrapping_add(last.data() as u32);
        last.data() == head.data()
            && !last.segment.flow.flags.is_psh()
            && self.data() <= head.data()
            && self.segment.flow.sequence == end
            && self.common == last.common
    }

    /// Returns the headers of a train of so many bytes.
    fn join(&self, last: &Self, length: usize) -> Joined {
        let mut header = self.packet[..self.headers()].to_vec();
        let transport = self.ip.length;
        let (ip, segment) = header.split_at_mut(transport);
        // It fits, as was seen to.
        if self.ip.source.is_ipv4() {
            let mut ip = Ipv4Packet::new_unchecked(ip);
            ip.set_total_len(length as u16);
            ip.fill_checksum();
        } else {
            Ipv6Packet::new_unchecked(ip).set_payload_len((length - transport) as u16);
        }
        let mut tcp = TcpPacket::new_unchecked(segment);
        tcp.set_psh(last.segment.flow.flags.is_psh());
        let (from, to) = (self.ip.source.into(), self.ip.destination.into());
        let length = (length - transport) as u32;
        tcp.set_checksum(checksum::pseudo_header(&from, &to, IpProtocol::Tcp, length));
        // Headers and data are shorter than a packet.
        let division = Division {
            transport: transport as u16,
            data: self.headers() as u16,
            segment: self.data() as u16,
        };
        Joined { header, division }
    }
}
