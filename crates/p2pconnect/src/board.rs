//! The bulletin board of a coordinator: peers find each other by a topic.

mod lookup;
mod posts;

use std::{collections::VecDeque, fmt, sync::Arc};

use p2pconnect_proto::{PeerId, board::Topic, message::TopicChanges};

use crate::coordinator::topics::Feed;
use posts::Hold;

pub(crate) use posts::{Board, Kind};

pub use lookup::Lookup;

/// This endpoint is on the board, under a topic, for as long as this exists.
///
/// When the connection to the coordinator is made anew, it is announced anew.
#[must_use = "the topic is announced for as long as this exists"]
#[derive(Debug)]
pub struct Announcement {
    _hold: Hold,
}

/// Tells who comes and goes under a topic, for as long as this exists.
///
/// It tells nothing of who was there before; [`Endpoint::lookup`](crate::Endpoint::lookup) does.
/// Look up when this exists, so that nobody is missed between the two.
#[derive(Debug)]
pub struct Watch {
    hold: Hold,
    feed: Arc<Feed>,
    topic: Topic,
    own_id: PeerId,
    events: VecDeque<TopicEvent>,
}

/// What happens under a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicEvent {
    /// A peer has announced itself, or has announced itself anew.
    Joined(PeerId),
    /// A peer has withdrawn, or its connection to the coordinator has ended.
    Left(PeerId),
    /// There were changes that nobody tells: too many at a time, or while there was no connection
    /// to the coordinator. Looking up tells who is there now.
    Missed,
}

impl Announcement {
    pub(crate) const fn new(hold: Hold) -> Self {
        Self { _hold: hold }
    }
}

impl Watch {
    pub(crate) fn new(hold: Hold, topic: Topic, own_id: PeerId) -> Self {
        Self {
            feed: hold.feed(),
            hold,
            topic,
            own_id,
            events: VecDeque::new(),
        }
    }

    /// Waits for the next change; `None` once the endpoint is closed. This endpoint's own coming
    /// and going is left out.
    ///
    /// Of each peer the last change is told. Whoever is slow to ask is told of [a
    /// gap](TopicEvent::Missed) when more than 256 peers have come and gone meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no event is lost.
    pub async fn next(&mut self) -> Option<TopicEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let changes = tokio::select! {
                // What has come is told before the end.
                biased;
                changes = self.feed.next() => changes,
                () = self.hold.ended() => return None,
            };
            self.take_in(changes);
        }
    }

    fn take_in(&mut self, changes: TopicChanges) {
        if changes.missed {
            self.events.push_back(TopicEvent::Missed);
        }
        // Whoever keeps the board may have made members up.
        let joined = changes.joined.iter().filter(|it| self.topic.has(it));
        let joined = joined.map(|it| TopicEvent::Joined(it.peer));
        let left = changes.left.iter().copied().map(TopicEvent::Left);
        let own = [
            TopicEvent::Joined(self.own_id),
            TopicEvent::Left(self.own_id),
        ];
        let others = joined.chain(left).filter(|it| !own.contains(it));
        self.events.extend(others);
    }
}

impl fmt::Display for TopicEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined(peer) => write!(f, "joined {peer}"),
            Self::Left(peer) => write!(f, "left {peer}"),
            Self::Missed => f.write_str("missed"),
        }
    }
}
