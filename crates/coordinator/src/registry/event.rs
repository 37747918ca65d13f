//! What came of a command to the registry.

use std::{net::SocketAddr, time::Duration};

use p2pconnect_proto::{
    Candidate, NatReport, PeerId, Role, SessionToken,
    message::{Extensions, Introduction, Refusal},
    nodes::{NodeId, RemoteDial},
};

use super::{ConnectionId, Place};
use crate::start::{rtt_via_coordinator_us, start_delays};

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The client can be dialled now.
    Registered {
        /// The addresses that were left out because nothing shows that they are the client's.
        unproven: Vec<SocketAddr>,
        /// The connection over which the same peer was registered until now.
        replaced: Option<ConnectionId>,
    },
    /// The client's peer has registered over another connection since it did over this one, and
    /// nothing has changed.
    Superseded,
    /// Two peers are to be told of each other.
    Meet(Box<Meeting>),
    /// The callee has dialled the client just before, which serves this dial as well.
    Crossed(SessionToken),
    /// The callee is not here. Whoever holds it is to be asked, and what comes of that is to be
    /// [told](super::Registry::answered).
    Elsewhere(Box<Elsewhere>),
    /// The introduction is no longer in flight.
    Settled {
        /// Those that nobody waits for any more, and the other coordinator that is to know.
        over: Vec<(SessionToken, NodeId)>,
    },
    /// The bytes may pass.
    Pass {
        /// Where the other side is.
        to: Place,
    },
    /// The command was turned down and has changed nothing.
    Refused(Refusal),
    /// The connection is forgotten.
    Disconnected {
        /// Whether that made the peer unreachable.
        was_registered: bool,
    },
}

/// A dial whose callee is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// What the node is asked that holds the callee; the round-trip time is still to be filled in.
    pub dial: RemoteDial,
    /// The dialler's addresses that were left out because nothing shows that they are its own.
    pub unproven: Vec<SocketAddr>,
}

/// One side of a meeting: what the other side is told of it, and where to tell it of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Who it is.
    pub peer: PeerId,
    /// Where it can be told.
    pub place: Place,
    /// Where it may be reached.
    pub candidates: Vec<Candidate>,
    /// What it knows of its NAT.
    pub nat: NatReport,
    /// What it tells its peers of itself.
    pub peer_extensions: Vec<u8>,
}

/// Two peers that are to start connecting to each other at the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// The name of the introduction.
    pub session: SessionToken,
    /// The controlling side.
    pub dialler: Side,
    /// The controlled side.
    pub callee: Side,
    /// The callee's own number of what the dialler is told of it.
    pub serial: u32,
    /// How many of the dialler's claims the callee is told the address for.
    pub witnessed: u8,
    /// Whether both are seen at the address of one subscriber.
    pub seen_together: bool,
    /// The first bytes of the dialler's handshake, for the callee.
    pub handshake: Vec<u8>,
    /// The dialler's addresses that were left out because nothing shows that they are its own.
    pub unproven: Vec<SocketAddr>,
}

/// The two messages of a meeting, each with the time from now until it is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introductions {
    /// What the dialler is told, and when.
    pub to_dialler: (Duration, Introduction),
    /// What the callee is told, and when.
    pub to_callee: (Duration, Introduction),
}

impl Meeting {
    /// Writes the two messages, given the round-trip times to the two peers right now.
    #[must_use]
    pub fn introductions(self, rtt_dialler: Duration, rtt_callee: Duration) -> Introductions {
        let (dialler_waits, callee_waits) = start_delays(rtt_dialler, rtt_callee);
        let rtt_via_coordinator_us = rtt_via_coordinator_us(rtt_dialler, rtt_callee);
        let session = self.session;
        let introduce = |other: Side, role| Introduction {
            session,
            peer: other.peer,
            role,
            candidates: other.candidates,
            nat: other.nat,
            rtt_via_coordinator_us,
            handshake: Vec::new(),
            serial: 0,
            witnessed: 0,
            seen_together: self.seen_together,
            peer_extensions: other.peer_extensions,
            extensions: Extensions::default(),
        };
        let to_dialler = Introduction {
            witnessed: self.witnessed,
            ..introduce(self.callee, Role::Controlling)
        };
        let to_callee = Introduction {
            handshake: self.handshake,
            serial: self.serial,
            ..introduce(self.dialler, Role::Controlled)
        };
        Introductions {
            to_dialler: (dialler_waits, to_dialler),
            to_callee: (callee_waits, to_callee),
        }
    }
}
