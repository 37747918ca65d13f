//! What is said of the bulletin board.

mod pending;

use super::{Extensions, MAX_TOLD};
use crate::{
    PeerId,
    board::{Member, MemberProof, TopicKey},
    codec::wire::fields,
};

pub use pending::PendingChanges;

/// The number among a coordinator's features that says that it keeps a bulletin board.
pub const BOARD: u16 = 1;

/// The most members on one page.
pub const MAX_PAGE: usize = 256;

/// The most changes in one notice, those that have come and those that have gone together.
pub const MAX_TOPIC_CHANGES: usize = 256;

/// Puts the peer on the board, under a topic, for as long as the connection lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// The topic.
    pub topic: TopicKey,
    /// What shows the other members that the peer is one. A coordinator cannot check it.
    pub proof: MemberProof,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(Announce {
    topic,
    proof,
    extensions
});

/// Asks who is on the board under a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookUp {
    /// The topic.
    pub topic: TopicKey,
    /// How many peers are wanted at most.
    pub most: u16,
    /// Where to go on, as the page before has said.
    pub cookie: Option<Cookie>,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(LookUp {
    topic,
    most,
    cookie,
    extensions
});

/// Where the next page begins. Only a coordinator knows what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie(pub [u8; 16]);
fields!(Cookie { 0 });

/// Asks to be told who comes and goes under a topic, for as long as the connection lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The topic.
    pub topic: TopicKey,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(Watch { topic, extensions });

/// A page of those who are on the board under a topic, drawn at random.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Who they are, at most [`MAX_PAGE`].
    pub members: Vec<Member>,
    /// Where the next page begins, if there is one.
    pub cookie: Option<Cookie>,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(Found { members[MAX_TOLD], cookie, extensions });

impl Found {
    /// Returns the page with as many members as one has at most.
    #[must_use]
    pub fn well_formed(mut self) -> Self {
        self.members.truncate(MAX_PAGE);
        self
    }
}

/// Who has come and gone under a topic that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicChanges {
    /// The topic.
    pub topic: TopicKey,
    /// Whether there were changes before these that are not told, as there was no room for them.
    pub missed: bool,
    /// Who has come. Together with those who have gone at most [`MAX_TOPIC_CHANGES`].
    pub joined: Vec<Member>,
    /// Who has gone.
    pub left: Vec<PeerId>,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(TopicChanges {
    topic,
    missed,
    joined[MAX_TOLD],
    left[MAX_TOLD],
    extensions,
});

impl TopicChanges {
    /// Returns a notice that nothing has changed.
    #[must_use]
    pub fn new(topic: TopicKey) -> Self {
        Self {
            topic,
            missed: false,
            joined: Vec::new(),
            left: Vec::new(),
            extensions: Extensions::default(),
        }
    }

    /// Returns the notice with as many changes as there are in one. Where there were more, or it
    /// has an extension that must not be passed over, it says that some are missing.
    #[must_use]
    pub fn well_formed(mut self) -> Self {
        let is_too_long = self.joined.len() + self.left.len() > MAX_TOPIC_CHANGES;
        if is_too_long || self.extensions.unknown_required().is_some() {
            self.missed = true;
            self.joined.clear();
            self.left.clear();
        }
        self
    }
}
