//! What coordinators say to each other, where several serve the same peers.
//!
//! Each coordinator is a *node*. The node that a peer is registered at listens at the peer's
//! [subject](peer_subject), so that nobody needs to know which node that is; every node listens at
//! one of its own and at that of all. A [`NodeMessage`] travels [sealed](NodeKey::seal).

mod seal;

use std::net::SocketAddr;

use crate::{
    Candidate, NatReport, PeerId, SessionToken,
    board::TopicKey,
    codec::wire::{fields, kinds},
    message::{
        Extensions, Flight, Found, Introduction, LookUp, MAX_CANDIDATES, MAX_CLAIMS, Refusal,
        Silent, TopicChanges, Unknown,
    },
};

pub use seal::{MAX_AGE, NodeKey, OpenError};

/// The subject at which every node listens.
pub const SUBJECT_OF_ALL: &str = "p2pconnect.1.all";

/// The name of one run of a coordinator: 16 random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 16]);
fields!(NodeId { 0 });

impl NodeId {
    /// The length in bytes.
    pub const LEN: usize = 16;

    /// Makes a name of 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the subject at which this node listens.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("p2pconnect.1.node.{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Returns the subject at which the node listens that a peer is registered at.
#[must_use]
pub fn peer_subject(peer: &PeerId) -> String {
    format!("p2pconnect.1.peer.{peer}")
}

/// Returns the subject at which those nodes listen that have members or watchers of a topic.
#[must_use]
pub fn topic_subject(topic: &TopicKey) -> String {
    format!("p2pconnect.1.topic.{:032x}", topic.first_half())
}

/// What a node says, and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeMessage {
    /// The node that says it.
    pub from: NodeId,
    /// What it says.
    pub content: NodeContent,
}
fields!(NodeMessage { from, content });

/// What a node says to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeContent {
    /// Asks for a [`Pong`](Self::Pong), by which nodes know how far they are from each other. The
    /// number is the sender's own.
    Ping(u64),
    /// The answer to the ping of this number.
    Pong(u64),
    /// Says that a peer has registered with the sender, to whoever else holds it.
    Claim(Claim),
    /// Asks the node that holds the callee for an introduction.
    Introduce(RemoteDial),
    /// Answers that: the callee is told of the dialler at the same moment.
    Introduced(RemoteIntroduction),
    /// Answers a request that is turned down.
    Refused(Refusal),
    /// Answers a dial that the callee's own dial serves as well, by the name of that.
    Crossed(SessionToken),
    /// Passes bytes of a handshake on to the side of an introduction that the receiver holds.
    Relay(Flight),
    /// Answers that: they are on their way.
    Relayed,
    /// Says that the sender's side of an introduction is not heard of any more.
    Silent(Silent),
    /// Says that the callee is done with an introduction.
    Settled(RemoteSettled),
    /// Asks where those who show these commitments have been seen.
    Witnessed(Commitments),
    /// Answers that, in the same order.
    Seen(Sightings),
    /// Says that the sender serves nobody any more.
    Leaving,
    /// Tells who has come to the sender's board, and gone from it, under a topic.
    Topic(TopicChanges),
    /// Asks for a page of the receiver's board, which begins at the cookie.
    LookUp(LookUp),
    /// Answers that.
    Found(Found),
    /// Something of a later version, which is ignored.
    Unknown(Unknown),
}
kinds!(NodeContent {
    0 Ping(it),
    1 Pong(it),
    2 Claim(it),
    3 Introduce(it),
    4 Introduced(it),
    5 Refused(it),
    6 Crossed(it),
    7 Relay(it),
    8 Relayed,
    9 Silent(it),
    10 Settled(it),
    11 Witnessed(it),
    12 Seen(it),
    13 Leaving,
    14 Topic(it),
    15 LookUp(it),
    16 Found(it),
});

/// A peer that has registered with a node. It is the newest registration that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who has registered.
    pub peer: PeerId,
    /// How long ago, in milliseconds: no two nodes need have the same time.
    pub age_ms: u32,
    /// Whether this answers another claim. It is not answered then.
    pub is_answer: bool,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(Claim {
    peer,
    age_ms,
    is_answer,
    extensions
});

/// A dial of a peer that is at another node than its callee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteDial {
    /// The name for the introduction.
    pub session: SessionToken,
    /// Who dials, as the sender knows beyond doubt.
    pub dialler: PeerId,
    /// The address at which the sender sees the dialler.
    pub seen: SocketAddr,
    /// Whether the dial has come over the connection that the dialler is registered on.
    pub is_registered: bool,
    /// Whom it dials.
    pub callee: PeerId,
    /// Where the dialler may be reached: what the sender has found proven, without tokens.
    pub candidates: Vec<Candidate>,
    /// How many of these, from the first, stand for claims.
    pub witnessed: u8,
    /// What the dialler knows of its NAT.
    pub nat: NatReport,
    /// The first bytes of the dialler's handshake.
    pub handshake: Vec<u8>,
    /// What the dialler tells its peer of itself.
    pub peer_extensions: Vec<u8>,
    /// The round-trip time from the sender to the dialler, in microseconds.
    pub rtt_us: u32,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(RemoteDial {
    session,
    dialler,
    seen,
    is_registered,
    callee,
    candidates[MAX_CANDIDATES],
    witnessed,
    nat,
    handshake,
    peer_extensions,
    rtt_us,
    extensions,
});

/// What a dialler at another node is told, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteIntroduction {
    /// What the dialler is told.
    pub introduction: Introduction,
    /// How long its node is to hold that back, in microseconds, so that both sides start together.
    pub wait_us: u32,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(RemoteIntroduction {
    introduction,
    wait_us,
    extensions
});

/// The end of an introduction whose dialler is at another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteSettled {
    /// The introduction.
    pub session: SessionToken,
    /// Who has dialled.
    pub dialler: PeerId,
    /// Who is done with it.
    pub callee: PeerId,
}
fields!(RemoteSettled {
    session,
    dialler,
    callee
});

/// Commitments that are looked for, at most [`MAX_CLAIMS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitments(pub Vec<[u8; 32]>);
fields!(Commitments { 0[MAX_CLAIMS] });

/// Where somebody was seen who showed a commitment, for each that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sightings(pub Vec<Option<SocketAddr>>);
fields!(Sightings { 0[MAX_CLAIMS] });
