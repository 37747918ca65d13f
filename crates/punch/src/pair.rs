//! One pair of addresses: its state, its attempts, and when the next one is due.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use p2pconnect_proto::{CandidateKind, is_global};

use crate::{CandidatePair, CheckId, PairOutcome, PairReport};

/// The most attempts on a pair whose remote address is private.
///
/// Such an address often belongs to a stranger in our own network, who refuses within a
/// millisecond and would eat up the SYNs of the pairs that matter. A real neighbour answers the
/// first.
const MAX_PRIVATE_ATTEMPTS: u32 = 16;

/// The most attempts on any other pair: one each round-trip time of 60 ms for the whole round.
const MAX_ATTEMPTS: u32 = 64;

/// The most attempts on a pair of guessed ports: if both sides' SYNs were turned away so often,
/// they do not cross.
const MAX_GUESS_ATTEMPTS: u32 = 8;

/// The place of a pair in the checklist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PairId(pub(crate) usize);

/// Where a pair is in its life (RFC 8445 section 6.1.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckState {
    /// To be connected at that moment.
    Waiting { due: Instant },
    /// A socket is in SYN-SENT.
    InProgress { check: CheckId, since: Instant },
    /// The kernel says that the connection exists already; the listener should hand it out.
    AwaitingAccept { until: Instant },
    /// There is an open connection on the pair.
    Open,
    /// Nothing more is tried here.
    Ended(Ending),
}

/// Why nothing more is tried on a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// This machine has no route there.
    NoRoute,
    /// Enough has been tried, or the other end is a stranger.
    Exhausted,
    /// Somebody who knows the session answers there with another key.
    Impostor,
    /// We only wait on it from now on: the peer connects, or has.
    Passive,
}

/// Who connects on a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DialledBy {
    /// Both sides, for a simultaneous open.
    Both,
    /// Both, until an attempt of ours has been silent for so long; then the peer alone.
    PeerAfter(Duration),
    /// The peer alone.
    Peer,
}

/// One pair and what has happened on it.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) pair: CandidatePair,
    /// Where its remote address means something.
    pub(crate) scope: Scope,
    /// Which group of pairs it starts with: 0 at once, the others as hedges.
    pub(crate) stage: u32,
    /// Whether it is one of hundreds, with a budget of their own.
    pub(crate) is_guess: bool,
    pub(crate) dialled_by: DialledBy,
    state: CheckState,
    pub(crate) attempts: u32,
    /// Attempts that sent nothing, since this side has sent too much in vain lately.
    pub(crate) withheld: u32,
    /// Failures in a row that came from this machine and sent no SYN.
    pub(crate) local_failures: u32,
    /// Connections that opened here and broke before they were verified.
    pub(crate) broken: u32,
    pub(crate) last: Option<PairOutcome>,
}

impl Pair {
    pub(crate) fn new(pair: CandidatePair, scope: Scope, stage: u32, state: CheckState) -> Self {
        Self {
            pair,
            scope,
            stage,
            is_guess: false,
            dialled_by: DialledBy::Both,
            state,
            attempts: 0,
            withheld: 0,
            local_failures: 0,
            broken: 0,
            last: None,
        }
    }

    pub(crate) const fn state(&self) -> CheckState {
        self.state
    }

    /// Takes the pair on in its life; only the checklist does, which knows it by its state.
    pub(crate) const fn enter(&mut self, state: CheckState) {
        self.state = state;
    }

    /// Tells whether the pair may be tried once more.
    pub(crate) fn has_attempts_left(&self) -> bool {
        let most = if self.is_guess {
            MAX_GUESS_ATTEMPTS
        } else if self.is_private() {
            MAX_PRIVATE_ATTEMPTS
        } else {
            MAX_ATTEMPTS
        };
        self.attempts < most
    }

    /// Returns how many attempts have sent anything.
    pub(crate) const fn sent(&self) -> u32 {
        self.attempts - self.withheld
    }

    /// Tells whether the pair leads to an interface address that only its own network can reach.
    fn is_private(&self) -> bool {
        self.pair.kind == CandidateKind::Host && self.scope == Scope::Inside
    }

    /// Tells whether a hedge still waits for its first attempt.
    pub(crate) fn is_unused_hedge(&self) -> bool {
        self.stage > 0 && self.attempts == 0
    }

    pub(crate) fn report(&self) -> PairReport {
        let silent = if self.attempts == 0 {
            PairOutcome::NotTried
        } else {
            PairOutcome::Silent
        };
        PairReport {
            pair: self.pair,
            attempts: self.sent(),
            outcome: self.last.unwrap_or(silent),
        }
    }
}

/// Where an address means something, in the order in which pairs start.
///
/// Whoever dials may name addresses in the network of the side that he dials, and sees what that
/// side sends to him. So what is found in one scope must not change what is done in the other one:
/// each has a budget of attempts, a source of randomness and room for connections of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Everywhere.
    Outside,
    /// In a network.
    Inside,
}

impl Scope {
    /// Returns the scope of an address; one of those that are `translated` stands for a public one,
    /// whatever the NAT64's prefix is.
    pub(crate) fn of(ip: IpAddr, translated: &BTreeSet<IpAddr>) -> Self {
        if is_global(ip) || translated.contains(&ip) {
            Self::Outside
        } else {
            Self::Inside
        }
    }
}
