//! The boards of other coordinators: all of them keep one.
//!
//! Each node has the entries of its own peers. It tells the others what changes under a topic, and
//! asks each of them for a page. It listens about those topics alone that it has members or
//! watchers of.

use std::{sync::Arc, time::Duration};

use p2pconnect_host::clock;
use p2pconnect_proto::{
    board::TopicKey,
    message::{Found, LookUp, TopicChanges},
    nodes::{NodeContent, topic_subject},
};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tracing::debug;

use super::Nodes;
use crate::service::lock::lock;

/// How much longer than its round trip another node may take for a page: a page without its members
/// is better than none.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often to see whether the bus is there again.
const POLL: Duration = Duration::from_millis(100);

impl Nodes {
    /// Takes in what others tell of a topic, and returns when they are heard.
    pub(in crate::service) async fn follow(&self, topic: TopicKey) {
        if lock(&self.topics).contains_key(&topic) {
            return;
        }
        let subject = topic_subject(&topic);
        let listening = self.cluster.bus.listen(subject, self.of_topics.clone());
        let listening = listening.await;
        // What is not needed ends without the lock.
        let former = lock(&self.topics).insert(topic, listening);
        drop(former);
    }

    /// Takes in no more of a topic.
    pub(in crate::service) fn unfollow(&self, topic: &TopicKey) {
        let listened = lock(&self.topics).remove(topic);
        drop(listened);
    }

    /// Has others told what has changed on the board here, in the order in which it is said.
    pub(in crate::service) fn changed(&self, changes: TopicChanges) {
        if self.changes.try_send(changes).is_err() {
            debug!("others are told no more of what changes on the board");
        }
    }

    /// Tells whether a node has come or gone, or is missing, since this was asked last.
    pub(in crate::service) fn have_changed(&self) -> bool {
        lock(&self.delays).have_changed(clock::now())
    }

    /// Returns the pages that other nodes have for the same cookie.
    pub(in crate::service) async fn pages(self: &Arc<Self>, look_up: &LookUp) -> Vec<Found> {
        let (others, farthest) = {
            let delays = lock(&self.delays);
            (delays.nodes(clock::now()), delays.farthest())
        };
        let mut asking = JoinSet::new();
        for node in others {
            let (nodes, asked) = (Arc::clone(self), NodeContent::LookUp(look_up.clone()));
            asking.spawn(async move {
                let answer = nodes.ask(node.subject(), asked, farthest + PATIENCE);
                match answer.await.map(|it| it.content) {
                    Ok(NodeContent::Found(found)) => {
                        let is_known = found.extensions.unknown_required().is_none();
                        is_known.then(|| found.well_formed())
                    }
                    Ok(_) | Err(_) => None,
                }
            });
        }
        let mut pages = Vec::new();
        while let Some(page) = asking.join_next().await {
            pages.extend(page.ok().flatten());
        }
        pages
    }
}

/// Tells others what changes on the board here, for as long as the future is polled. While the bus
/// is away, that waits.
pub(in crate::service) async fn carry(nodes: &Nodes, mut changes: mpsc::Receiver<TopicChanges>) {
    while let Some(changes) = changes.recv().await {
        while nodes.away().is_some() {
            sleep(POLL).await;
        }
        let subject = topic_subject(&changes.topic);
        nodes.tell(subject, NodeContent::Topic(changes)).await;
    }
}
