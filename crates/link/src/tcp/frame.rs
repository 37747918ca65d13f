//! The frames of yamux (<https://github.com/hashicorp/yamux/blob/master/spec.md>). Pure.

/// The bytes of a header: version, type, flags, stream, length.
pub(super) const HEADER_LEN: usize = 12;

/// The flags of a frame.
pub(super) mod flag {
    /// Opens a stream, or asks for an answer to a ping.
    pub(in super::super) const SYN: u16 = 1;
    /// Takes a stream, or answers a ping.
    pub(in super::super) const ACK: u16 = 2;
    /// Ends the sender's direction.
    pub(in super::super) const FIN: u16 = 4;
    /// Ends both directions at once.
    pub(in super::super) const RST: u16 = 8;
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// So many bytes follow.
    Data,
    /// The other side may send so many bytes more.
    WindowUpdate,
    /// Asks for an answer, or is one, with this value.
    Ping,
    /// The session ends, with this code.
    GoAway,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: u16,
    /// 0 for the session.
    pub(super) stream: u32,
    /// Of the bytes that follow, or what else the kind makes of it.
    pub(super) length: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_LEN] {
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::WindowUpdate => 1,
            Kind::Ping => 2,
            Kind::GoAway => 3,
        };
        let mut bytes = [0; HEADER_LEN];
        bytes[1] = kind;
        bytes[2..4].copy_from_slice(&self.flags.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Reads a head; `None` for another version or an unknown kind.
    pub(super) fn decode(bytes: [u8; HEADER_LEN]) -> Option<Self> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            _ => return None,
        };
        (version == 0).then_some(Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    /// Tells whether the frame has a flag.
    pub(super) const fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_as_the_specification_has_them() {
        let header = Header {
            kind: Kind::Data,
            flags: flag::SYN | flag::FIN,
            stream: 3,
            length: 0x0102_0304,
        };
        let bytes = [0, 0, 0, 5, 0, 0, 0, 3, 1, 2, 3, 4];
        assert_eq!(header.encode(), bytes);
        assert_eq!(Header::decode(bytes), Some(header));
        for kind in [Kind::WindowUpdate, Kind::Ping, Kind::GoAway] {
            let other = Header { kind, ..header };
            assert_eq!(Header::decode(other.encode()), Some(other));
        }
        assert_eq!(Header::decode([1; HEADER_LEN]), None);
        assert_eq!(Header::decode([0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
