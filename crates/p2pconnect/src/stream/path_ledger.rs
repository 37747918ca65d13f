//! Which TCP connection a stream runs over: until the peer has answered, that may change.

use std::sync::{Arc, Mutex};

use p2pconnect_proto::PeerId;

use crate::{
    metrics::Recorder,
    stream::{
        opened_path::UsablePath,
        pair_rotation::{PairLease, PairRotation},
    },
    sync::{Watched, Watcher, lock},
};

/// The record of the connections to a peer that streams run over: pairs of ports that are in use,
/// and metrics.
#[derive(Debug, Clone)]
pub(crate) struct PathLedger {
    pub(crate) peer: PeerId,
    pub(crate) pair_rotation: Arc<PairRotation>,
    pub(crate) metrics: Arc<Recorder>,
}

/// The connection that a stream runs over. Its pair of ports is in use as long as this exists.
#[derive(Debug)]
pub(crate) struct StreamPath {
    ledger: PathLedger,
    first: UsablePath,
    now: Mutex<(UsablePath, Arc<PairLease>)>,
    /// Whether the peer has answered on the connection, so that no other one replaces it.
    confirmed: Watched<bool>,
}

impl StreamPath {
    pub(crate) fn new(ledger: &PathLedger, path: UsablePath) -> Self {
        let lease = ledger.pair_rotation.note(ledger.peer, &path.opened.pair);
        Self {
            ledger: ledger.clone(),
            first: path,
            now: Mutex::new((path, lease)),
            confirmed: Watched::new(false),
        }
    }

    /// Returns the connection that the stream began on.
    pub(crate) const fn first(&self) -> UsablePath {
        self.first
    }

    /// Returns the connection that the stream runs over now.
    pub(crate) fn now(&self) -> UsablePath {
        lock(&self.now).0
    }

    /// Notes that the peer has answered on the connection.
    pub(crate) fn confirm(&self) {
        self.confirmed.set(true);
    }

    /// Watches whether the peer has answered on the connection.
    pub(crate) fn confirmation(&self) -> Watcher<bool> {
        self.confirmed.watch()
    }

    /// Notes that the connection has come to nothing, and that the stream runs over another one.
    pub(crate) fn replace(&self, path: UsablePath) {
        let PathLedger {
            peer,
            pair_rotation,
            metrics,
        } = &self.ledger;
        let mut now = lock(&self.now);
        let former = now.0;
        let lease = pair_rotation.correct(*peer, &former.opened.pair, &path.opened.pair);
        *now = (path, lease);
        let open = path.opened.at.saturating_duration_since(former.opened.at);
        let usable = path.since.saturating_duration_since(former.since);
        metrics.replaced(open, usable, [former.stats, path.stats]);
    }
}
