//! Brings what a coordinator tells of topics to whoever watches them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

use p2pconnect_proto::{
    board::TopicKey,
    message::{PendingChanges, TopicChanges},
};

use crate::sync::{Watched, lock};

/// The topics that are watched over one connection.
#[derive(Debug, Default)]
pub(crate) struct Topics(Mutex<BTreeMap<TopicKey, Feeds>>);

impl Topics {
    /// Brings what comes of a topic there from now on.
    pub(super) fn watch(&self, topic: TopicKey, feeds: &Feeds) {
        lock(&self.0).insert(topic, feeds.clone());
    }

    pub(super) fn unwatch(&self, topic: TopicKey) {
        lock(&self.0).remove(&topic);
    }

    /// Takes in what the coordinator tells; what nobody has asked for is passed over.
    pub(super) fn deliver(&self, changes: TopicChanges) {
        let changes = changes.well_formed();
        let feeds = lock(&self.0).get(&changes.topic).cloned();
        if let Some(feeds) = feeds {
            feeds.take_in(&changes);
        }
    }
}

/// Where the changes of a topic go. Clones are the same.
#[derive(Debug, Default, Clone)]
pub(crate) struct Feeds(Arc<Mutex<Vec<Weak<Feed>>>>);

impl Feeds {
    /// Returns one more of them, which is one for as long as it exists.
    pub(crate) fn add(&self) -> Arc<Feed> {
        let feed = Arc::new(Feed::default());
        let mut feeds = lock(&self.0);
        feeds.retain(|it| it.strong_count() > 0);
        feeds.push(Arc::downgrade(&feed));
        feed
    }

    /// Notes that there were changes that nobody has told.
    pub(crate) fn miss(&self) {
        self.each(PendingChanges::missed);
    }

    fn take_in(&self, changes: &TopicChanges) {
        self.each(|pending| pending.take_in(changes));
    }

    fn each(&self, change: impl Fn(&mut PendingChanges)) {
        for feed in lock(&self.0).iter().filter_map(Weak::upgrade) {
            feed.0.change(&change);
        }
    }
}

/// What has changed in a topic and the application has not asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Feed(Watched<PendingChanges>);

impl Feed {
    /// Waits for changes, and takes them out. Cancel safe.
    pub(crate) async fn next(&self) -> TopicChanges {
        // Whose changes these are, everybody knows who asks for them.
        const NO_TOPIC: TopicKey = TopicKey::from_bytes([0; 32]);

        loop {
            self.0.wait_for(|pending| !pending.is_empty()).await;
            let mut taken = None;
            self.0.change_if(|pending| {
                taken = pending.take(NO_TOPIC);
                false
            });
            if let Some(changes) = taken {
                return changes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use p2pconnect_proto::{
        PeerId,
        board::{Member, MemberProof},
        message::{Extension, Extensions, MAX_TOPIC_CHANGES},
    };

    use super::*;

    const TOPIC: TopicKey = TopicKey::from_bytes([1; 32]);

    fn joined(numbers: std::ops::Range<usize>) -> TopicChanges {
        let member = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            Member {
                peer: PeerId::from_public_key(key),
                proof: MemberProof([2; 16]),
            }
        };
        TopicChanges {
            joined: numbers.map(member).collect(),
            ..TopicChanges::new(TOPIC)
        }
    }

    #[tokio::test]
    async fn changes_come_to_all_who_watch_and_to_nobody_else() {
        let (topics, feeds) = (Topics::default(), Feeds::default());
        topics.deliver(joined(0..1));
        topics.watch(TOPIC, &feeds);
        let both = [feeds.add(), feeds.add()];
        topics.deliver(joined(1..3));
        for feed in &both {
            assert_eq!(feed.next().await.joined, joined(1..3).joined);
        }
        topics.deliver(TopicChanges::new(TopicKey::from_bytes([9; 32])));
        topics.unwatch(TOPIC);
        topics.deliver(joined(3..4));
        assert!(both[0].0.borrow().is_empty());
    }

    #[tokio::test]
    async fn an_application_that_does_not_ask_is_told_of_a_gap() {
        let (topics, feeds) = (Topics::default(), Feeds::default());
        topics.watch(TOPIC, &feeds);
        let feed = feeds.add();
        topics.deliver(joined(0..MAX_TOPIC_CHANGES));
        topics.deliver(joined(MAX_TOPIC_CHANGES..MAX_TOPIC_CHANGES + 1));
        let told = feed.next().await;
        assert!(told.missed && told.joined.is_empty());
        // A coordinator that says more than fits, or what must not be passed over.
        let newer = Extension {
            kind: 0x8001,
            value: Vec::new(),
        };
        let newer = TopicChanges {
            extensions: Extensions(vec![newer]),
            ..joined(0..1)
        };
        for told in [joined(0..MAX_TOPIC_CHANGES + 1), newer] {
            topics.deliver(told);
            let told = feed.next().await;
            assert!(told.missed && told.joined.is_empty());
        }
        feeds.miss();
        assert!(feed.next().await.missed);
    }
}
