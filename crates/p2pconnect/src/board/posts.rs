//! What an endpoint wants of the board, and who wants it.

mod keeper;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

use p2pconnect_proto::{
    PeerId,
    board::{Topic, TopicKey},
};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    CoordinatorError,
    coordinator::{
        lines::Lines,
        requests::Coordination,
        topics::{Feed, Feeds},
    },
    sync::lock,
};

/// What is wanted of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Announcement,
    Watch,
}

/// What the tasks that keep an endpoint on the board share with those who want that.
///
/// There is a post for each topic that is announced and for each that is watched, with a task of
/// its own, and any number of holds on it. So what the coordinator is told of one topic is told in
/// order.
#[derive(Debug)]
pub(crate) struct Board {
    lines: watch::Receiver<Lines>,
    own_id: PeerId,
    posts: Arc<Mutex<Posts>>,
    tasks: Mutex<JoinSet<()>>,
}

/// The posts that there are.
type Posts = BTreeMap<(Kind, TopicKey), Weak<Post>>;

/// Something that is wanted of the board.
#[derive(Debug)]
struct Post {
    /// How many want it.
    holds: watch::Sender<usize>,
    /// Where changes go, where it is a watch.
    feeds: Feeds,
    state: watch::Receiver<State>,
}

/// Whether the coordinator does what is wanted.
#[derive(Debug, Clone)]
enum State {
    /// It is being asked.
    Asking,
    Kept,
    Refused(CoordinatorError),
}

/// A hold on a post, given up when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    post: Arc<Post>,
    feed: Arc<Feed>,
}

impl Board {
    pub(crate) fn new(lines: watch::Receiver<Lines>, own_id: PeerId) -> Self {
        Self {
            lines,
            own_id,
            posts: Arc::default(),
            tasks: Mutex::default(),
        }
    }

    /// Returns the connections to coordinators as they are from now on.
    pub(crate) fn lines(&self) -> watch::Receiver<Lines> {
        self.lines.clone()
    }

    /// Has something wanted for as long as what is returned exists.
    pub(crate) fn hold(&self, kind: Kind, topic: &Topic) -> Hold {
        let key = (kind, topic.key());
        let mut posts = lock(&self.posts);
        let known = posts.get(&key).and_then(Weak::upgrade);
        let post = known.unwrap_or_else(|| {
            let (state, watched) = watch::channel(State::Asking);
            let post = Arc::new(Post {
                holds: watch::Sender::new(0),
                feeds: Feeds::default(),
                state: watched,
            });
            posts.insert(key, Arc::downgrade(&post));
            let keeper = keeper::Keeper {
                kind,
                topic: topic.key(),
                proof: topic.proof(&self.own_id),
                post: Arc::clone(&post),
                state,
                lines: self.lines.clone(),
                posts: Arc::clone(&self.posts),
            };
            let mut tasks = lock(&self.tasks);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(keeper.run());
            post
        });
        post.holds.send_modify(|holds| *holds += 1);
        let feed = post.feeds.add();
        Hold { post, feed }
    }
}

/// Forgets a post that nobody wants; tells whether that is so.
fn forget(posts: &Mutex<Posts>, kind: Kind, topic: TopicKey, post: &Post) -> bool {
    // Whoever wants it meanwhile holds this lock.
    let mut posts = lock(posts);
    let is_unwanted = *post.holds.borrow() == 0;
    if is_unwanted {
        posts.remove(&(kind, topic));
    }
    is_unwanted
}

impl Hold {
    /// Waits until the coordinator has done what is wanted, or has said why it does not. Cancel
    /// safe.
    pub(crate) async fn settled(&self) -> Result<(), CoordinatorError> {
        let mut state = self.post.state.clone();
        let settled = state.wait_for(|it| !matches!(it, State::Asking)).await;
        match settled.as_deref() {
            Ok(State::Refused(error)) => Err(error.clone()),
            Ok(State::Kept | State::Asking) => Ok(()),
            Err(_) => Err(closed()),
        }
    }

    /// Waits until nobody keeps the post any more, as the endpoint is closed. Cancel safe.
    pub(super) async fn ended(&self) {
        let mut state = self.post.state.clone();
        while state.changed().await.is_ok() {}
    }

    pub(super) fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.feed)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.post.holds.send_modify(|holds| *holds -= 1);
    }
}

/// Waits until there is a connection to a coordinator, and returns the preferred one. Cancel safe.
pub(super) async fn connected(
    lines: &mut watch::Receiver<Lines>,
) -> Result<Arc<Coordination>, CoordinatorError> {
    let found = lines.wait_for(|it| it.preferred().is_some()).await;
    let found = found.map_err(|_| closed())?;
    found.preferred().cloned().ok_or_else(closed)
}

/// Returns the error of an endpoint that looks for no coordinator any more.
fn closed() -> CoordinatorError {
    CoordinatorError::Lost {
        reason: "this endpoint is closed, or another one has its key".to_owned(),
    }
}
