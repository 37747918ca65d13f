//! The board of a coordinator, and whom to wake when it changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use p2pconnect_host::Host;
use p2pconnect_proto::{
    GreaseSource,
    board::TopicKey,
    message::{Extensions, Found, LookUp, TopicChanges},
};
use tokio::{sync::Notify, task::JoinSet};

use super::{lock::lock, nodes::Nodes};
use crate::{
    board::{Board, Effect, Position},
    registry::{BoardLimits, ConnectionId},
};

/// The board, and the ways to those who watch it.
#[derive(Debug)]
pub(super) struct Bulletin {
    board: Mutex<Board>,
    /// Of the connections that have watched something.
    feeds: Mutex<BTreeMap<ConnectionId, Feed>>,
    /// The other coordinators that keep the same board, if there are any.
    nodes: Option<Arc<Nodes>>,
    pub(super) grease: GreaseSource,
}

/// What tells one client of changes until it is dropped.
#[derive(Debug)]
struct Feed {
    changed: Arc<Notify>,
    _task: JoinSet<()>,
}

impl Bulletin {
    pub(super) fn new(limits: BoardLimits, host: &Host, nodes: Option<Arc<Nodes>>) -> Self {
        Self {
            board: Mutex::new(Board::new(limits)),
            feeds: Mutex::default(),
            nodes,
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
        let mut board = self.board();
        let (effect, topics) = board.forget(connection);
        self.spread(effect);
        for topic in topics {
            self.unfollow(&board, topic);
        }
    }

    /// Takes in what has changed at another coordinator.
    pub(super) fn hear(&self, changes: &TopicChanges) {
        let mut board = self.board();
        let effect = board.hear(changes);
        self.spread(effect);
    }

    /// Notes that something may have changed at other coordinators that nobody has told.
    pub(super) fn miss_others(&self) {
        let mut board = self.board();
        let effect = board.missed_elsewhere();
        self.spread(effect);
    }

    /// Returns the page that another coordinator asks for.
    pub(super) fn page_for(&self, look_up: &LookUp) -> Option<Found> {
        let position = Position::of_cookie(look_up.cookie?);
        Some(self.board().page(&look_up.topic, position, look_up.most))
    }

    /// Returns the pages that other coordinators have for a position.
    pub(super) async fn pages_of_others(&self, look_up: &LookUp, from: Position) -> Vec<Found> {
        let Some(nodes) = &self.nodes else {
            return Vec::new();
        };
        let asked = LookUp {
            topic: look_up.topic,
            most: look_up.most,
            cookie: Some(from.cookie()),
            extensions: Extensions::default(),
        };
        nodes.pages(&asked).await
    }

    /// Has others tell of a topic, and returns when they are heard: whoever watches looks up then.
    pub(super) async fn follow(&self, topic: TopicKey) {
        if let Some(nodes) = &self.nodes {
            nodes.follow(topic).await;
            // Whoever has wanted that may have gone.
            self.unfollow(&self.board(), topic);
        }
    }

    /// Has others tell no more of a topic that nobody here has to do with any more. The board is
    /// locked, so that nobody wants it meanwhile.
    pub(super) fn unfollow(&self, board: &Board, topic: TopicKey) {
        if let Some(nodes) = self.nodes.as_ref().filter(|_| !board.knows(&topic)) {
            nodes.unfollow(&topic);
        }
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.board)
    }

    /// Wakes those who are to be told. The board is locked, so that all are told in order.
    pub(super) fn spread(&self, effect: Effect) {
        for changes in effect.changes {
            if let Some(nodes) = &self.nodes {
                nodes.changed(changes);
            }
        }
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
