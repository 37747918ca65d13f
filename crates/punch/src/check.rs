//! The names of checks, and the addresses that a check is between.

use std::{fmt, net::SocketAddr};

use p2pconnect_proto::{CandidateKind, PunchPort};

/// Names one attempt to connect, or one accepted connection, within an agent.
///
/// Every action carries one and its answer repeats it, so that late answers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub(crate) u32);

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A local address and port to connect from (RFC 8445 section 4, "base").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Base {
    /// The address of an interface, with the number of a punch port.
    pub address: SocketAddr,
    /// The punch port that the address belongs to.
    pub punch_port: PunchPort,
}

/// Where a connection goes from and to (RFC 8445 section 4, "candidate pair").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CandidatePair {
    /// The address on this side.
    pub local: SocketAddr,
    /// The address on the other side, as seen from here.
    pub remote: SocketAddr,
    /// What the remote address is.
    pub kind: CandidateKind,
}
