//! TCP segments.

use std::fmt;

use smoltcp::wire::TcpPacket;

use super::{flags::TcpFlags, flow::Flow};

/// The header of a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) flow: Flow,
    pub(crate) acknowledgement: u32,
    /// Bytes of the header, with its options.
    pub(crate) header: usize,
    /// Bytes of data.
    pub(crate) payload: usize,
}

impl Segment {
    /// Reads a whole segment, of which the ends have been read.
    pub(super) fn read(flow: Flow, tcp: &TcpPacket<&[u8]>) -> Self {
        let flags = TcpFlags::read(tcp);
        Self {
            flow: Flow { flags, ..flow },
            acknowledgement: tcp.ack_number().0.cast_unsigned(),
            header: tcp.header_len().into(),
            payload: tcp.payload().len(),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flow {
            source,
            destination,
            sequence,
            flags,
            ..
        } = self.flow;
        let letters: String = flags.names().map(|(_, letter)| letter).collect();
        let (acknowledgement, payload) = (self.acknowledgement, self.payload);
        write!(
            f,
            "{source} > {destination} {letters} seq {sequence} ack {acknowledgement} len {payload}"
        )
    }
}
