//! Which TCP connection a stream runs over: until the peer has answered, that may change.

use std::sync::{Arc, Mutex, PoisonError};

use p2pconnect_proto::PeerId;
use tokio::sync::watch;

use crate::{
    metrics::Recorder,
    stream::{
        opened_path::Usage,
        pair_rotation::{PairRotation, Taken},
    },
};

/// Where it is noted which connections to a peer are used.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    pub(crate) peer: PeerId,
    pub(crate) pair_rotation: Arc<PairRotation>,
    pub(crate) metrics: Arc<Recorder>,
}

/// The connection that a stream runs over. Its pair of addresses is taken as long as this exists.
#[derive(Debug)]
pub(crate) struct InUse {
    books: Books,
    first: Usage,
    now: Mutex<(Usage, Arc<Taken>)>,
    /// Whether the peer has answered on it, so that no other one takes its place.
    confirmed: watch::Sender<bool>,
}

impl InUse {
    pub(crate) fn new(books: &Books, usage: Usage) -> Self {
        let taken = books.pair_rotation.note(books.peer, &usage.way.pair);
        Self {
            books: books.clone(),
            first: usage,
            now: Mutex::new((usage, taken)),
            confirmed: watch::Sender::new(false),
        }
    }

    /// Returns the connection that the stream began on.
    pub(crate) const fn first(&self) -> Usage {
        self.first
    }

    /// Returns the connection that the stream runs over now.
    pub(crate) fn now(&self) -> Usage {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Notes that the peer has answered on the connection.
    pub(crate) fn confirm(&self) {
        self.confirmed.send_replace(true);
    }

    /// Watches whether it has.
    pub(crate) fn confirmation(&self) -> watch::Receiver<bool> {
        self.confirmed.subscribe()
    }

    /// Notes that the connection has come to nothing, and another one has taken its place.
    pub(crate) fn replace(&self, usage: Usage) {
        let Books {
            peer,
            pair_rotation,
            metrics,
        } = &self.books;
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let former = now.0;
        let taken = pair_rotation.correct(*peer, &former.way.pair, &usage.way.pair);
        *now = (usage, taken);
        let open = usage.way.at.saturating_duration_since(former.way.at);
        let usable = usage.since.saturating_duration_since(former.since);
        metrics.replaced(open, usable, [former.stats, usage.stats]);
    }
}
