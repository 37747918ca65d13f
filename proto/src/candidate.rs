use std::net::SocketAddr;

use bincode::{Decode, Encode};

use crate::ReflexiveToken;

/// What an address of a peer is, in the order of preference (RFC 8445 section 5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum CandidateKind {
    /// An address of one of the peer's own interfaces.
    Host,
    /// The address from which a STUN server saw the peer's connection come.
    ServerReflexive,
    /// An address of the NAT that it forwards to the peer on request (PCP, NAT-PMP, UPnP).
    Mapped,
    /// The address from which the first connection out of an unused local port is expected to
    /// come. What the next ones come from follows from the port assignment that the peer
    /// reports: the next port if ports are preserved, a step further if they are sequential, any
    /// of the range if they are random. Of a random range it names a port that is not in use, so
    /// that a peer with connections from all of its ports has one from this port too.
    ///
    /// With another punch port than [`FRESH`](PunchPort::FRESH), it is where that port is seen if the
    /// NAT keeps its number.
    Predicted,
    /// An address learnt from a connection that the peer made to us. Never sent.
    PeerReflexive,
}

/// Which of its punch ports a peer connects from.
///
/// An endpoint binds several ports, each with a mapping of its own, because some NATs spoil a
/// pair of ports for minutes when an attempt between them fails. Two candidates with the same
/// punch port share a base port (RFC 8445 section 4, "base").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PunchPort(pub u8);

impl PunchPort {
    /// The port that is tried first.
    pub const PRIMARY: Self = Self(0);
    /// The port that takes over when the primary one's path is spoilt or a packet was lost.
    pub const SPARE: Self = Self(1);
    /// The first of a row of local ports that nothing has been sent from yet, for NATs whose
    /// mappings depend on the destination.
    pub const FRESH: Self = Self(2);
}

/// An address at which a peer may be reached over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Candidate {
    /// What the address is.
    pub kind: CandidateKind,
    /// The address itself.
    pub address: SocketAddr,
    /// The punch port that the address stands for.
    pub punch_port: PunchPort,
    /// The STUN server's word that this peer was seen at this address.
    pub token: Option<ReflexiveToken>,
}

impl Candidate {
    /// Returns a host candidate.
    #[must_use]
    pub const fn host(address: SocketAddr, punch_port: PunchPort) -> Self {
        Self {
            kind: CandidateKind::Host,
            address,
            punch_port,
            token: None,
        }
    }

    /// Returns a server-reflexive candidate.
    #[must_use]
    pub const fn server_reflexive(
        address: SocketAddr,
        punch_port: PunchPort,
        token: Option<ReflexiveToken>,
    ) -> Self {
        Self {
            kind: CandidateKind::ServerReflexive,
            address,
            punch_port,
            token,
        }
    }
}
