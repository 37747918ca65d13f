//! TCP segments in IP packets.

use std::net::SocketAddr;

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{IpProtocol, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber},
};

use crate::packet::{IpHeader, ip_packet};

/// A sequence number.
pub(in crate::virtual_time) type Seq = TcpSeqNumber;

/// The header of a segment, and its data.
pub(in crate::virtual_time) type Segment<'a> = TcpRepr<'a>;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::virtual_time) struct Flow {
    pub(in crate::virtual_time) local: SocketAddr,
    pub(in crate::virtual_time) remote: SocketAddr,
}

impl Flow {
    /// Returns a segment without flags, options and data from the local end.
    pub(super) const fn segment(&self, seq: Seq) -> Segment<'static> {
        TcpRepr {
            src_port: self.local.port(),
            dst_port: self.remote.port(),
            control: TcpControl::None,
            seq_number: seq,
            ack_number: None,
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        }
    }

    /// Returns the packet of a segment from the local end.
    pub(super) fn packet(&self, segment: &Segment<'_>) -> Vec<u8> {
        let (from, to) = (self.local.ip(), self.remote.ip());
        ip_packet(from, to, IpProtocol::Tcp, segment.buffer_len(), |body| {
            let mut tcp = TcpPacket::new_unchecked(body);
            let sums = ChecksumCapabilities::default();
            segment.emit(&mut tcp, &from.into(), &to.into(), &sums);
        })
    }

    /// Returns the answer to a segment that no socket takes, if there is one (RFC 9293 section
    /// 3.10.7.1).
    pub(in crate::virtual_time) fn refusal(&self, segment: &Segment<'_>) -> Option<Vec<u8>> {
        if segment.control == TcpControl::Rst {
            return None;
        }
        let mut rst = self.segment(segment.ack_number.unwrap_or_default());
        rst.control = TcpControl::Rst;
        if segment.ack_number.is_none() {
            rst.ack_number = Some(segment.seq_number + segment.segment_len());
        }
        Some(self.packet(&rst))
    }
}

/// Reads a packet with a segment, which comes from the remote end and whose checksums are right;
/// nothing if the segment contradicts itself.
pub(in crate::virtual_time) fn read<'a>(
    ip: &IpHeader,
    packet: &'a [u8],
) -> Option<(Flow, Segment<'a>)> {
    let (from, to) = (ip.source, ip.destination);
    let body = TcpPacket::new_checked(packet.get(ip.length..ip.total)?).ok()?;
    let sums = ChecksumCapabilities::ignored();
    let segment = TcpRepr::parse(&body, &from.into(), &to.into(), &sums).ok()?;
    let flow = Flow {
        local: SocketAddr::new(to, segment.dst_port),
        remote: SocketAddr::new(from, segment.src_port),
    };
    Some((flow, segment))
}

/// Returns whether a segment begins a connection: a SYN without ACK.
pub(in crate::virtual_time) fn is_syn(segment: &Segment<'_>) -> bool {
    segment.control == TcpControl::Syn && segment.ack_number.is_none()
}

/// Returns the sequence number with this value.
pub(in crate::virtual_time) const fn sequence(value: u32) -> Seq {
    TcpSeqNumber(value.cast_signed())
}

/// Returns how far one sequence number is before another, negative if it is behind.
pub(super) const fn distance(from: Seq, to: Seq) -> i32 {
    to.0.wrapping_sub(from.0)
}
