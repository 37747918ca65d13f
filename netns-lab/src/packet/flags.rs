//! The flags of a TCP header.

use std::fmt;

use smoltcp::wire::TcpPacket;

/// The flags of a TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// Where they stand in a TCP header (RFC 9293 section 3.1).
    const PLACE: usize = 13;

    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const PSH: u8 = 8;
    const ACK: u8 = 16;

    /// The flags with their names, and the letters by which lines of a record name them.
    const NAMES: [(u8, &'static str, char); 5] = [
        (Self::SYN, "SYN", 'S'),
        (Self::FIN, "FIN", 'F'),
        (Self::RST, "RST", 'R'),
        (Self::PSH, "PSH", 'P'),
        (Self::ACK, "ACK", '.'),
    ];

    /// Reads them from a TCP header.
    pub(super) fn read(tcp: &TcpPacket<&[u8]>) -> Self {
        Self(tcp.as_ref()[Self::PLACE])
    }

    /// Returns whether this opens a connection: a SYN, and neither ACK, RST nor FIN.
    pub const fn is_syn(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }

    /// Returns whether this is a SYN with ACK, and no RST.
    pub const fn is_syn_ack(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::SYN | Self::ACK
    }

    /// Returns whether this is a reset.
    pub const fn is_rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Returns whether the sender has nothing more to send.
    pub const fn is_fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Returns whether the acknowledgement number counts.
    pub const fn is_ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// Returns whether there is a SYN, whatever else.
    pub(crate) const fn has_syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Returns whether the receiver is asked to hand over what it has.
    pub(crate) const fn is_psh(self) -> bool {
        self.0 & Self::PSH != 0
    }

    /// Returns whether only an existing connection would send this.
    pub(crate) const fn is_midstream(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::ACK
    }

    /// Returns whether there is an ACK, and nothing else but perhaps PSH.
    pub(crate) const fn only_acknowledges(self) -> bool {
        self.0 & !Self::PSH == Self::ACK
    }

    /// Returns the names of those that are set, and their letters.
    pub(super) fn names(self) -> impl Iterator<Item = (&'static str, char)> {
        let set = Self::NAMES
            .iter()
            .filter(move |(bit, ..)| self.0 & bit != 0);
        set.map(|(_, name, letter)| (*name, *letter))
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().map(|(name, _)| name).collect();
        f.write_str(&names.join("-"))
    }
}
