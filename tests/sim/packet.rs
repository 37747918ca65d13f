use std::net::SocketAddr;

/// A TCP segment, or an ICMP error about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) body: Body,
}

/// What a packet says. A sequence number stands for the whole connection that it begins: `seq` is
/// the sender's initial one, `ack` the receiver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Syn {
        seq: u32,
    },
    SynAck {
        seq: u32,
        ack: u32,
    },
    Ack {
        seq: u32,
        ack: u32,
    },
    /// `seq` is `None` when nobody was there who had one.
    Rst {
        seq: Option<u32>,
        ack: u32,
    },
    Message {
        seq: u32,
        ack: u32,
        message: Message,
    },
    /// The packet comes back to its `dst`, about the SYN that went from `dst` to `src`.
    Icmp {
        syn: u32,
        code: IcmpCode,
    },
}

/// What a router says of a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IcmpCode {
    AdministrativelyProhibited,
    /// To the one who connects it looks like a RST.
    PortUnreachable,
}

/// What the two drivers say on an open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Hello,
    Proof,
    Nominate,
}

impl Packet {
    /// Returns a packet the other way.
    pub(crate) const fn answer(&self, body: Body) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            body,
        }
    }
}
