//! The messages between a peer and its coordinator.
//!
//! A peer opens a bidirectional stream for each [`Request`] and reads one [`Response`] from it.
//! The coordinator opens a unidirectional stream for each [`Notice`].

mod board;
mod extension;
mod moving;
mod refusal;

use std::net::SocketAddr;

use crate::{
    Candidate, NatReport, PeerId, PunchPort, Role, SessionToken, Succession,
    board::TopicKey,
    codec::wire::{Wire, fields, kinds, read_list, read_sized, write_list, write_sized},
};

pub use board::{
    Announce, BOARD, Cookie, Found, LookUp, MAX_PAGE, MAX_TOPIC_CHANGES, PendingChanges,
    TopicChanges, Watch,
};
pub use extension::{
    CLUSTER, Extension, Extensions, MAX_CLUSTER, MAX_EXTENSION_BYTES, MAX_EXTENSIONS,
    MAX_PEER_EXTENSIONS, SUCCESSION,
};
pub use moving::{MAX_PLACES, Move};
pub use refusal::{Refusal, RefusalReason, Room, Unsupported};

/// The most candidates that a peer may register or send with a dial.
///
/// Two punch ports on a machine with a handful of addresses fit; what an introduction makes the
/// other side send SYNs to stays small.
pub const MAX_CANDIDATES: usize = 16;

/// The most peer ids in a [`DialPolicy::Only`]; 32 KiB of a 64 KiB message.
pub const MAX_ALLOWED_PEERS: usize = 1024;

/// The most STUN servers that a coordinator announces.
pub const MAX_STUN_SERVERS: usize = 8;

/// The most items that are kept of a list in what a coordinator says. What makes no sense is left
/// out afterwards, and the limits are for what is left then.
const MAX_TOLD: usize = 512;

/// The most features that a coordinator names.
pub const MAX_FEATURES: usize = 64;

/// The most bytes of a handshake that a coordinator passes on from one side of an introduction to
/// the other.
///
/// The larger side of a handshake with two Ed25519 certificates takes 1 KiB. More than a few times
/// that would be a way for other things than handshakes.
pub const MAX_HANDSHAKE: usize = 4 * 1024;

/// The most server-reflexive addresses that a dial leaves to the coordinator: one for each punch
/// port and address family.
pub const MAX_CLAIMS: usize = 4;

/// The longest silence of a peer that a coordinator tells of, in milliseconds: its connection has
/// ended by then.
pub const MAX_SILENT_MS: u32 = 30_000;

/// What a peer asks of its coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Makes the peer known, so that it can be dialled, or replaces what it registered before.
    Register(Registration),
    /// Asks for an introduction to another peer.
    Dial(DialRequest),
    /// Says, as a callee, that what this dialler was introduced for is over, whatever came of it.
    ///
    /// The introduction counts no longer against the limits of those in flight.
    Settled(PeerId),
    /// Passes bytes of the handshake on to the other side of an introduction.
    Relay(Flight),
    /// Puts the peer on the board, or gives its entry another proof.
    Announce(Announce),
    /// Takes the peer off the board again.
    Withdraw(TopicKey),
    /// Asks who is on the board.
    LookUp(LookUp),
    /// Asks to be told who comes and goes.
    Watch(Watch),
    /// Asks not to be told any more.
    Unwatch(TopicKey),
    /// Proves that the peer has been invited, see [`InviteSecret`](crate::InviteSecret). The first
    /// request of a connection, which the coordinator does not answer.
    Prove([u8; 32]),
    /// Something of a later version, which is refused.
    Unknown(Unknown),
}
kinds!(Request {
    0 Register(it),
    1 Dial(it),
    2 Settled(it),
    3 Relay(it),
    4 Announce(it),
    5 Withdraw(it),
    6 LookUp(it),
    7 Watch(it),
    8 Unwatch(it),
    9 Prove(it),
});

/// A message of a kind that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The number of its kind.
    pub kind: u16,
    /// Everything else.
    pub fields: Vec<u8>,
}

/// Bytes of the handshake between two peers that were introduced to each other.
///
/// What is in them is no business of the coordinator, which can neither read nor alter it
/// unnoticed: it is TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    /// The introduction.
    pub session: SessionToken,
    /// The bytes, at most [`MAX_HANDSHAKE`] from one side in all. None at all say that the sender
    /// has given the introduction up.
    pub bytes: Vec<u8>,
}
fields!(Flight { session, bytes });

/// What others need in order to reach a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Where the peer may be reached, at most [`MAX_CANDIDATES`].
    pub candidates: Vec<Candidate>,
    /// What the peer knows of its NAT.
    pub nat: NatReport,
    /// Who may dial the peer.
    pub policy: DialPolicy,
    /// The peer's own number of this registration, which an introduction names. Of two on one
    /// connection the one with the higher number counts, modulo 2^32.
    pub serial: u32,
    /// What the peer tells its peers of itself, see [`Extensions::of_peer`]; at most
    /// [`MAX_PEER_EXTENSIONS`] bytes, which the coordinator passes on unread.
    pub peer_extensions: Vec<u8>,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(Registration {
    candidates[MAX_CANDIDATES],
    nat,
    policy,
    serial,
    peer_extensions,
    extensions,
});

impl Registration {
    /// Returns a registration that says nothing but who may dial.
    #[must_use]
    pub fn new(policy: DialPolicy) -> Self {
        Self {
            candidates: Vec::new(),
            nat: NatReport::default(),
            policy,
            serial: 0,
            peer_extensions: Vec::new(),
            extensions: Extensions::default(),
        }
    }
}

/// Who may dial a peer. Nobody else is told its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialPolicy {
    /// Anybody who knows the peer id.
    Anyone,
    /// Only these, at most [`MAX_ALLOWED_PEERS`].
    Only(Vec<PeerId>),
    /// A policy of a later version, by its number. It admits nobody, and a coordinator refuses the
    /// registration.
    Unknown(u16),
}

/// With its length in front.
impl Wire for DialPolicy {
    fn write(&self, out: &mut Vec<u8>) {
        write_sized(out, |out| match self {
            Self::Anyone => 0_u16.write(out),
            Self::Only(peers) => {
                1_u16.write(out);
                write_list(peers, out);
            }
            Self::Unknown(number) => number.write(out),
        });
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        read_sized(bytes, |fields| {
            Some(match u16::read(fields)? {
                0 => Self::Anyone,
                1 => Self::Only(read_list(fields, MAX_ALLOWED_PEERS)?),
                number => Self::Unknown(number),
            })
        })?
    }
}

impl DialPolicy {
    /// Tells whether `peer` may dial.
    #[must_use]
    pub fn admits(&self, peer: &PeerId) -> bool {
        match self {
            Self::Anyone => true,
            Self::Only(peers) => peers.contains(peer),
            Self::Unknown(_) => false,
        }
    }
}

/// A wish to be introduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialRequest {
    /// The peer to dial.
    pub callee: PeerId,
    /// Where the dialler may be reached, at most [`MAX_CANDIDATES`].
    pub candidates: Vec<Candidate>,
    /// What the dialler knows of its NAT.
    pub nat: NatReport,
    /// Server-reflexive addresses that the dialler has not heard of yet, at most [`MAX_CLAIMS`].
    pub claims: Vec<ReflexiveClaim>,
    /// The first bytes of the handshake, for the callee; may be empty. They count towards
    /// [`MAX_HANDSHAKE`].
    pub handshake: Vec<u8>,
    /// What the dialler tells its peer of itself, see [`Registration::peer_extensions`].
    pub peer_extensions: Vec<u8>,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(DialRequest {
    callee,
    candidates[MAX_CANDIDATES],
    nat,
    claims[MAX_CLAIMS],
    handshake,
    peer_extensions,
    extensions,
});

impl DialRequest {
    /// Returns a request that says nothing but whom to dial.
    #[must_use]
    pub fn new(callee: PeerId) -> Self {
        Self {
            callee,
            candidates: Vec::new(),
            nat: NatReport::default(),
            claims: Vec::new(),
            handshake: Vec::new(),
            peer_extensions: Vec::new(),
            extensions: Extensions::default(),
        }
    }
}

/// A server-reflexive address that the coordinator's own STUN server has seen, or is about to see.
///
/// The Binding request carries the commitment to this salt and the peer id. The coordinator puts
/// the address in the claim's place, so that a dial need not wait for the STUN server's answer. The
/// introduction says for how many it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflexiveClaim {
    /// The punch port that the address stands for.
    pub punch_port: PunchPort,
    /// The salt of the commitment.
    pub salt: [u8; 16],
}
fields!(ReflexiveClaim { punch_port, salt });

/// What a coordinator answers to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// The peer can be dialled now.
    Registered(Registered),
    /// The other peer is told at the same moment: start.
    Introduced(Introduction),
    /// The request was understood and turned down.
    Refused(Refusal),
    /// The introduction is no longer in flight.
    Settled,
    /// The bytes are on their way to the other side.
    Relayed,
    /// The peer that is dialled has dialled the dialler just before. The introduction of this name,
    /// which the dialler is told of as a callee, serves this dial as well.
    Crossed(SessionToken),
    /// The board is, or the peer is told of it, as it was asked for.
    Noted,
    /// Some of those who are on the board.
    Found(Found),
    /// Something of a later version. The request has failed.
    Unknown(Unknown),
}
kinds!(Response {
    0 Registered(it),
    1 Introduced(it),
    2 Refused(it),
    3 Settled,
    4 Relayed,
    5 Crossed(it),
    6 Noted,
    7 Found(it),
});

/// The answer to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The candidates that were left out because nothing shows that they are the peer's.
    pub unproven: Vec<SocketAddr>,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(Registered { unproven[MAX_TOLD], extensions });

/// Everything that a peer needs in order to connect to another.
///
/// It is delivered to both peers at the same moment, as near as the round-trip times that QUIC
/// measures allow, and that moment is when both start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// The secret name of this introduction.
    pub session: SessionToken,
    /// The other peer.
    pub peer: PeerId,
    /// Which side the receiver is on.
    pub role: Role,
    /// Where the other peer may be reached.
    pub candidates: Vec<Candidate>,
    /// What the other peer knows of its NAT.
    pub nat: NatReport,
    /// The round-trip time between the peers by way of the coordinator, in microseconds: an
    /// estimate of the direct one, usually too high.
    pub rtt_via_coordinator_us: u32,
    /// The first bytes of the dialler's handshake. Empty towards the dialler itself.
    pub handshake: Vec<u8>,
    /// By which of its registrations the callee is known to the dialler. Zero towards the dialler
    /// itself.
    pub serial: u32,
    /// How many of the dialler's claims the callee is told the address for. Zero towards the
    /// callee.
    pub witnessed: u8,
    /// Whether the coordinator sees both at one IPv4 address or in one IPv6 /64: they may be in one
    /// network then, in which private addresses lead to each other.
    pub seen_together: bool,
    /// What the other peer tells of itself, see [`Extensions::of_peer`].
    pub peer_extensions: Vec<u8>,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(Introduction {
    session,
    peer,
    role,
    candidates[MAX_TOLD],
    nat,
    rtt_via_coordinator_us,
    handshake,
    serial,
    witnessed,
    seen_together,
    peer_extensions,
    extensions,
});

impl Introduction {
    /// Returns the first type of an extension, of the message's or of the other peer's, that this
    /// version does not know and must not pass over.
    #[must_use]
    pub fn unknown_required(&self) -> Option<u16> {
        let of_peer = || Extensions::of_peer(&self.peer_extensions).unknown_required();
        self.extensions.unknown_required().or_else(of_peer)
    }

    /// Returns the introduction without what no peer can mean, whoever has said it: malformed
    /// candidates, those beyond [`MAX_CANDIDATES`], a NAT that no NAT is like, and a handshake of
    /// more than [`MAX_HANDSHAKE`] bytes. IPv4 addresses mapped into IPv6 are what they are.
    ///
    /// A peer acts by this. What somebody else has made up must not throw it off.
    #[must_use]
    pub fn well_formed(mut self) -> Self {
        let portable = self.candidates.into_iter().map(Candidate::portable);
        self.candidates = portable.filter(Candidate::is_well_formed).collect();
        self.candidates.truncate(MAX_CANDIDATES);
        self.nat = self.nat.well_formed();
        if self.peer_extensions.len() > MAX_PEER_EXTENSIONS {
            self.peer_extensions = Vec::new();
        }
        if self.handshake.len() > MAX_HANDSHAKE {
            self.handshake = Vec::new();
        }
        self
    }
}

/// What a coordinator tells a peer unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Sent once on every connection, when the handshake is finished.
    Welcome(Welcome),
    /// Another peer dials: start.
    Introduction(Introduction),
    /// Bytes of the handshake from the other side of an introduction.
    Flight(Flight),
    /// The other side of an introduction is not heard of any more.
    Silent(Silent),
    /// Somebody has come or gone under a topic that the peer watches.
    Topic(TopicChanges),
    /// The coordinator is going to end, and the peer is to be elsewhere by then.
    Move(Move),
    /// Something of a later version, which is ignored.
    Unknown(Unknown),
}
kinds!(Notice {
    0 Welcome(it),
    1 Introduction(it),
    2 Flight(it),
    3 Silent(it),
    4 Topic(it),
    5 Move(it),
});

/// What a coordinator tells one side of an introduction of the other, which may have gone without a
/// word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent {
    /// The introduction.
    pub session: SessionToken,
    /// For how many milliseconds nothing has come from the other side, at most [`MAX_SILENT_MS`].
    pub silent_ms: u32,
}
fields!(Silent { session, silent_ms });

impl Silent {
    /// Returns the notice with a silence that there can be.
    #[must_use]
    pub fn well_formed(self) -> Self {
        Self {
            silent_ms: self.silent_ms.min(MAX_SILENT_MS),
            ..self
        }
    }
}

/// What a peer should know about the coordinator.
///
/// An unspecified IP address (`0.0.0.0` or `::`) in a STUN server's place stands for the one at
/// which the peer reached the coordinator, which a coordinator behind a NAT does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The address that the peer's QUIC packets come from.
    pub observed: SocketAddr,
    /// STUN servers to learn mappings from, at most [`MAX_STUN_SERVERS`], the preferred first.
    ///
    /// An unspecified IP address stands for the one at which the peer reached the coordinator.
    pub stun_servers: Vec<SocketAddr>,
    /// Further addresses that answer STUN, only for telling how the NAT maps; at most
    /// [`MAX_STUN_SERVERS`], unspecified ones as above.
    pub stun_alternates: Vec<SocketAddr>,
    /// What the coordinator can do besides, as a set of numbers; at most [`MAX_FEATURES`]. One of
    /// them is [`BOARD`].
    pub features: Vec<u16>,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(Welcome {
    observed,
    stun_servers[MAX_TOLD],
    stun_alternates[MAX_TOLD],
    features[MAX_FEATURES],
    extensions,
});

impl Welcome {
    /// Returns the welcome with as many STUN servers as count, each with a port.
    #[must_use]
    pub fn well_formed(mut self) -> Self {
        for servers in [&mut self.stun_servers, &mut self.stun_alternates] {
            servers.retain(|server| server.port() != 0);
            servers.truncate(MAX_STUN_SERVERS);
        }
        self.features.truncate(MAX_FEATURES);
        self
    }

    /// Returns what the coordinator says of another key that takes the place of one of its own.
    #[must_use]
    pub fn succession(&self) -> Option<Succession> {
        Succession::of_value(self.extensions.value(SUCCESSION)?)
    }

    /// Returns the name of the registry that this coordinator shares with others, if it does.
    #[must_use]
    pub fn cluster(&self) -> Option<&[u8]> {
        let name = self.extensions.value(CLUSTER)?;
        (1..=MAX_CLUSTER).contains(&name.len()).then_some(name)
    }
}
