//! The board of a coordinator, and whom to wake when it changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use p2pconnect_host::Host;
use p2pconnect_proto::GreaseSource;
use tokio::{sync::Notify, task::JoinSet};

use super::lock::lock;
use crate::{
    board::{Board, Effect},
    registry::{BoardLimits, ConnectionId},
};

/// The board, and the ways to those who watch it.
#[derive(Debug)]
pub(super) struct Bulletin {
    board: Mutex<Board>,
    /// Of the connections that have watched something.
    feeds: Mutex<BTreeMap<ConnectionId, Feed>>,
    pub(super) grease: GreaseSource,
}

/// What tells one client of changes until it is dropped.
#[derive(Debug)]
struct Feed {
    changed: Arc<Notify>,
    _task: JoinSet<()>,
}

impl Bulletin {
    pub(super) fn new(limits: BoardLimits, host: &Host) -> Self {
        Self {
            board: Mutex::new(Board::new(limits)),
            feeds: Mutex::default(),
            grease: GreaseSource::new(host.random_seed()),
        }
    }

    pub(super) fn set_limits(&self, limits: BoardLimits) {
        self.board().set_limits(limits);
    }

    /// Tells whether there is a board.
    pub(super) fn is_kept(&self) -> bool {
        self.board().is_kept()
    }

    /// Returns how many entries and how many watches there are.
    pub(super) fn len(&self) -> (usize, usize) {
        self.board().len()
    }

    /// Forgets a connection that has ended.
    pub(super) fn forget(&self, connection: ConnectionId) {
        drop(lock(&self.feeds).remove(&connection));
        let (effect, _) = self.board().forget(connection);
        self.spread(&effect);
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.board)
    }

    /// Wakes those who are to be told.
    pub(super) fn spread(&self, effect: &Effect) {
        if effect.wake.is_empty() {
            return;
        }
        let feeds = lock(&self.feeds);
        for id in &effect.wake {
            if let Some(feed) = feeds.get(id) {
                feed.changed.notify_one();
            }
        }
    }

    /// Has a client told of changes from now on, by a task that is woken for each.
    pub(super) fn feed<F>(&self, connection: ConnectionId, telling: impl FnOnce(Arc<Notify>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut feeds = lock(&self.feeds);
        feeds.entry(connection).or_insert_with(|| {
            let changed = Arc::new(Notify::new());
            let mut task = JoinSet::new();
            task.spawn(telling(Arc::clone(&changed)));
            Feed {
                changed,
                _task: task,
            }
        });
    }
}
