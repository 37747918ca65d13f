//! What is to be sent. Pure.

use super::super::frame::{Header, Kind};

/// The most bytes in one frame, so that what is urgent need not wait for long behind it.
const MAX_DATA: usize = 16 * 1024;

/// What is to be sent, and how much of it has been.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    /// Returns what has not been sent yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Notes that so much of it has been sent.
    pub(super) fn consume(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            // Most connections are idle most of the time, and keep nothing.
            *self = Self::default();
        }
    }

    pub(super) fn push(&mut self, header: Header) {
        self.bytes.extend_from_slice(&header.encode());
    }

    /// Adds a frame that has nothing but flags of a stream.
    pub(super) fn flags(&mut self, stream: u32, flags: u16) {
        self.push(Header {
            kind: Kind::Data,
            flags,
            stream,
            length: 0,
        });
    }

    /// Adds bytes on a stream, the first of them with these flags.
    pub(super) fn data(&mut self, stream: u32, mut flags: u16, bytes: &[u8]) {
        for piece in bytes.chunks(MAX_DATA) {
            self.push(Header {
                kind: Kind::Data,
                flags: std::mem::take(&mut flags),
                stream,
                length: u32::try_from(piece.len()).unwrap_or(u32::MAX),
            });
            self.bytes.extend_from_slice(piece);
        }
    }
}
