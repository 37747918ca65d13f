//! Open connections: which of them are verified when, and which one wins.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use p2pconnect_proto::Role;

use crate::{
    CandidatePair, CheckId, How,
    pair::{PairId, Scope},
};

/// The most verifications at a time.
///
/// Each may hold a TLS handshake's state for a stranger; eight are more than the pairs that work
/// between two peers, as a rule.
pub(crate) const MAX_VERIFYING: usize = 8;

/// The most verifications of connections from addresses that the peer did not name.
///
/// Half of all, so that strangers cannot keep the peer waiting.
const MAX_UNKNOWN_VERIFYING: usize = MAX_VERIFYING / 2;

/// The most open connections, verified or waiting, without the guesses of the controlled side.
pub(crate) const MAX_CONNECTIONS: usize = 16;

/// The most open connections from addresses that the peer did not name.
pub(crate) const MAX_UNKNOWN_CONNECTIONS: usize = MAX_CONNECTIONS / 2;

/// An open connection that has not won or lost yet.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) pair: CandidatePair,
    /// Where its remote address means something.
    pub(crate) scope: Scope,
    pub(crate) pair_id: Option<PairId>,
    pub(crate) how: How,
    /// Whose it seems to be.
    pub(crate) source: Source,
    pub(crate) verification: Verification,
}

/// Whose connection it seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The peer's: it is with an address that the peer named.
    Peer,
    /// The same, and one of hundreds that this side has dialled.
    Guess,
    /// Anybody's.
    Unknown,
}

/// How far the verification of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verification {
    Queued,
    InProgress {
        since: Instant,
    },
    /// It goes on while the connection is used.
    Used,
}

impl Connection {
    fn verifying_since(&self) -> Option<Instant> {
        match self.verification {
            Verification::Queued | Verification::Used => None,
            Verification::InProgress { since } => Some(since),
        }
    }
}

/// The open connections of a session.
#[derive(Debug)]
pub(crate) struct Connections {
    role: Role,
    stagger: Duration,
    timeout: Duration,
    table: BTreeMap<CheckId, Connection>,
}

impl Connections {
    pub(crate) const fn new(role: Role, stagger: Duration, timeout: Duration) -> Self {
        Self {
            role,
            stagger,
            timeout,
            table: BTreeMap::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Tells whether there are connections outside networks.
    pub(crate) fn has_outside(&self) -> bool {
        self.table.values().any(|open| open.scope == Scope::Outside)
    }

    pub(crate) fn has_room(&self, source: Source, scope: Scope) -> bool {
        if self.is_free(source) {
            return true;
        }
        let counted = || self.beside(scope).filter(|open| !self.is_free(open.source));
        let unknown = || counted().filter(|open| open.source == Source::Unknown);
        counted().count() < MAX_CONNECTIONS
            && (source != Source::Unknown || unknown().count() < MAX_UNKNOWN_CONNECTIONS)
    }

    /// Returns the connections that share the room of a scope, and are verified one after the
    /// other.
    ///
    /// On the controlling side there is one room for all: it chooses, and nobody scans whom he is
    /// dialled by.
    fn beside(&self, scope: Scope) -> impl Iterator<Item = &Connection> {
        let is_one_room = self.role == Role::Controlling;
        let all = self.table.values();
        all.filter(move |open| is_one_room || open.scope == scope)
    }

    /// Tells whether a connection is outside all bounds.
    ///
    /// If the peer turns out to let anybody in, hundreds of the controlled side's guesses open at
    /// once. The dialler has some of them and chooses one, so none may be closed here. Each
    /// keeps the socket that it was dialled with, and takes nothing else until the token has come.
    fn is_free(&self, source: Source) -> bool {
        source == Source::Guess && self.role == Role::Controlled
    }

    pub(crate) fn insert(&mut self, check: CheckId, connection: Connection) {
        self.table.insert(check, connection);
    }

    pub(crate) fn contains(&self, check: CheckId) -> bool {
        self.table.contains_key(&check)
    }

    pub(crate) fn holds_pair(&self, pair: PairId) -> bool {
        self.table.values().any(|open| open.pair_id == Some(pair))
    }

    /// Takes out a connection whose verification was asked for.
    pub(crate) fn take_verifying(&mut self, check: CheckId) -> Option<Connection> {
        match self.table.get(&check)?.verification {
            Verification::Queued => None,
            Verification::InProgress { .. } | Verification::Used => self.table.remove(&check),
        }
    }

    /// Notes that a connection is used while it is verified.
    pub(crate) fn use_early(&mut self, check: CheckId) {
        if let Some(open) = self.table.get_mut(&check)
            && matches!(open.verification, Verification::InProgress { .. })
        {
            open.verification = Verification::Used;
        }
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (CheckId, Connection)> + use<> {
        std::mem::take(&mut self.table).into_iter()
    }

    /// Returns the verifications that have taken too long.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<CheckId> {
        let overdue = |open: &Connection| {
            open.verifying_since()
                .is_some_and(|since| since + self.timeout <= now)
        };
        self.table
            .iter()
            .filter(|(_, open)| overdue(open))
            .map(|(check, _)| *check)
            .collect()
    }

    /// Begins the next verification if it is time for one.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<CheckId> {
        let (_, _, check) = self
            .table
            .iter()
            .filter(|(_, open)| open.verification == Verification::Queued)
            .filter(|(_, open)| self.start_of(open).has_come(now))
            .map(|(check, open)| {
                let unknown = open.source == Source::Unknown;
                (unknown, open.pair.kind, *check)
            })
            .min()?;
        let since = now;
        self.table.get_mut(&check)?.verification = Verification::InProgress { since };
        Some(check)
    }

    /// Returns when something here is due.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let timeouts = self
            .table
            .values()
            .filter_map(|open| Some(open.verifying_since()? + self.timeout));
        let starts = self
            .table
            .values()
            .filter(|open| open.verification == Verification::Queued)
            .filter_map(|open| self.start_of(open).moment());
        timeouts.chain(starts).min()
    }

    /// Returns until when hedges of a scope can wait, because a verification is under way that
    /// looks good.
    pub(crate) fn promising_until(&self, scope: Scope) -> Option<Instant> {
        self.beside(scope)
            .filter(|open| open.source != Source::Unknown)
            .filter_map(|open| Some(open.verifying_since()? + self.stagger))
            .max()
    }

    /// Tells whether a connection that waits may be verified, as things stand.
    ///
    /// The controlled side verifies all alike, since the other side chooses. The controlling side
    /// takes one after the other; strangers never keep the peer waiting.
    fn start_of(&self, waiting: &Connection) -> VerificationStart {
        let source = waiting.source;
        if self.is_free(source) {
            return VerificationStart::Now;
        }
        let verifying = || {
            self.beside(waiting.scope)
                .filter(|open| !self.is_free(open.source))
                .filter_map(|open| Some((open.source != Source::Unknown, open.verifying_since()?)))
        };
        let known = source != Source::Unknown;
        let unknown = verifying().filter(|(known, _)| !known).count();
        if verifying().count() >= MAX_VERIFYING || (!known && unknown >= MAX_UNKNOWN_VERIFYING) {
            return VerificationStart::AfterAnother;
        }
        match self.role {
            Role::Controlled => VerificationStart::Now,
            Role::Controlling => verifying()
                .filter(|(other, _)| *other || !known)
                .map(|(_, since)| since + self.stagger)
                .max()
                .map_or(VerificationStart::Now, VerificationStart::At),
        }
    }
}

/// When the verification of a waiting connection may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VerificationStart {
    Now,
    At(Instant),
    AfterAnother,
}

impl VerificationStart {
    fn has_come(self, now: Instant) -> bool {
        match self {
            Self::Now => true,
            Self::At(moment) => moment <= now,
            Self::AfterAnother => false,
        }
    }

    /// Returns the moment to wait for; `Now` has none, because `begin` has taken it.
    const fn moment(self) -> Option<Instant> {
        match self {
            Self::At(moment) => Some(moment),
            Self::Now | Self::AfterAnother => None,
        }
    }
}
