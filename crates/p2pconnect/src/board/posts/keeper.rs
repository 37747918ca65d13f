//! Keeps the coordinator told of one thing that is wanted of the board.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use p2pconnect_proto::board::{MemberProof, TopicKey};
use tokio::{sync::watch, time::sleep};

use super::{Kind, Post, Posts, State, forget};
use crate::{
    CoordinatorError,
    coordinator::{lines::Lines, requests::Coordination},
};

/// The pause before a coordinator is asked again that has refused, or not answered; it doubles.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest that this pause becomes.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The task that keeps a post.
pub(super) struct Keeper {
    pub(super) kind: Kind,
    pub(super) topic: TopicKey,
    pub(super) proof: MemberProof,
    pub(super) post: Arc<Post>,
    pub(super) state: watch::Sender<State>,
    pub(super) lines: watch::Receiver<Lines>,
    pub(super) posts: Arc<Mutex<Posts>>,
}

impl Keeper {
    /// Tells each coordinator that is preferred, for as long as somebody wants it.
    pub(super) async fn run(mut self) {
        let mut holds = self.post.holds.subscribe();
        let mut told: Option<Weak<Coordination>> = None;
        let (mut pause, mut is_first) = (PAUSE, true);
        loop {
            let is_wanted = *holds.borrow_and_update() > 0;
            let current = self.lines.borrow_and_update().preferred().cloned();
            let is_told = match (&told, &current) {
                (Some(told), Some(current)) => told.as_ptr() == Arc::as_ptr(current),
                (None, _) | (_, None) => false,
            };
            let mut wait = None;
            match current {
                Some(coordination) if is_wanted && !is_told => {
                    let asked = self.ask(&coordination).await;
                    // Whoever looks there would find what is not kept.
                    if let Some(former) = told.take().and_then(|it| it.upgrade()) {
                        self.end(&former).await;
                    }
                    match asked {
                        Ok(()) => {
                            told = Some(Arc::downgrade(&coordination));
                            pause = PAUSE;
                            if !std::mem::take(&mut is_first) {
                                // Who has come and gone since the last connection is not known.
                                self.post.feeds.miss();
                            }
                            self.state.send_replace(State::Kept);
                        }
                        Err(error) => {
                            tracing::debug!(%error, "the board does not take what is wanted");
                            wait = Some(pause.max(error.retry_after().unwrap_or_default()));
                            pause = (pause * 2).min(MAX_PAUSE);
                            if !error.is_gone() {
                                self.state.send_replace(State::Refused(error));
                            }
                        }
                    }
                }
                Some(coordination) if !is_wanted && is_told => {
                    self.end(&coordination).await;
                    (told, is_first) = (None, true);
                }
                Some(_) | None => {}
            }
            if !is_wanted && forget(&self.posts, self.kind, self.topic, &self.post) {
                return;
            }
            let retry = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.lines.changed() => if changed.is_err() {
                    return;
                },
                _ = holds.changed() => {}
                () = retry => {}
            }
        }
    }

    async fn ask(&self, coordination: &Coordination) -> Result<(), CoordinatorError> {
        match self.kind {
            Kind::Announcement => coordination.announce(self.topic, self.proof).await,
            Kind::Watch => coordination.watch(self.topic, &self.post.feeds).await,
        }
    }

    async fn end(&self, coordination: &Coordination) {
        let ended = match self.kind {
            Kind::Announcement => coordination.withdraw(self.topic).await,
            Kind::Watch => coordination.unwatch(self.topic).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "the board may not know that something is over");
        }
    }
}
