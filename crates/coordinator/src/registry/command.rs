//! What the registry is told to do, and by whom.

use std::{net::SocketAddr, time::Instant};

use p2pconnect_proto::{
    Candidate, PeerId, SessionToken,
    message::{DialRequest, Registration},
    nodes::NodeId,
};

/// The name of one connection to a coordinator, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Where one side of an introduction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At this coordinator, on a connection.
    Here(ConnectionId),
    /// At another one.
    There(NodeId),
}

/// A peer on one connection, as the coordinator knows it beyond doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The id that the peer proved in the handshake.
    pub peer: PeerId,
    /// The connection.
    pub connection: ConnectionId,
    /// The address at which the peer finished the handshake, which shows that the peer receives
    /// what is sent there. All of the connection's packets come from there.
    pub seen: SocketAddr,
}

/// A moment by both clocks that the registry goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// For rates and ages.
    pub monotonic: Instant,
    /// For the expiry of tokens, in seconds since the Unix epoch.
    pub unix_secs: u64,
}

/// What a client wants, or what has happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The client wants to be dialled, or changes what it registered before.
    Register(Registration),
    /// The client wants to meet another peer.
    Dial {
        /// Whom, and where the client may be reached.
        request: DialRequest,
        /// Where the STUN server beside the coordinator has seen the client, beyond doubt.
        witnessed: Vec<Candidate>,
        /// The name for the introduction, 16 fresh random bytes.
        session: SessionToken,
    },
    /// The client is done with what this dialler was introduced to it for.
    Settled(PeerId),
    /// The client has bytes of a handshake for the other side of an introduction.
    Relay {
        /// The introduction.
        session: SessionToken,
        /// How many bytes.
        bytes: usize,
    },
    /// The client's connection has ended.
    Disconnect,
}
