//! What has changed in a topic and has not been told yet.

use std::collections::BTreeMap;

use super::{MAX_TOPIC_CHANGES, TopicChanges};
use crate::{
    PeerId,
    board::{Member, MemberProof, TopicKey},
};

/// What has changed in a topic and somebody has not been told yet: of each peer the last change.
///
/// There are at most [`MAX_TOPIC_CHANGES`]. When there are more, all of them are forgotten, and it
/// is told that something is missing.
#[derive(Debug, Default)]
pub struct PendingChanges {
    by_peer: BTreeMap<PeerId, Option<MemberProof>>,
    missed: bool,
}

impl PendingChanges {
    /// Notes that a peer has come.
    pub fn joined(&mut self, member: Member) {
        self.note(member.peer, Some(member.proof));
    }

    /// Notes that a peer has gone.
    pub fn left(&mut self, peer: PeerId) {
        self.note(peer, None);
    }

    /// Notes that something has changed, and not what.
    pub fn missed(&mut self) {
        self.by_peer.clear();
        self.missed = true;
    }

    fn note(&mut self, peer: PeerId, change: Option<MemberProof>) {
        // Whoever is told that something is missing asks who is there.
        if self.missed {
            return;
        }
        self.by_peer.insert(peer, change);
        if self.by_peer.len() > MAX_TOPIC_CHANGES {
            self.missed();
        }
    }

    /// Returns of how many peers there is something to tell.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_peer.len()
    }

    /// Tells whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_peer.is_empty() && !self.missed
    }

    /// Takes in what a coordinator tells of the topic.
    pub fn take_in(&mut self, told: &TopicChanges) {
        if told.missed {
            self.missed();
        }
        for member in &told.joined {
            self.joined(*member);
        }
        for peer in &told.left {
            self.left(*peer);
        }
    }

    /// Takes everything out as one notice, if there is something to tell.
    pub fn take(&mut self, topic: TopicKey) -> Option<TopicChanges> {
        if self.is_empty() {
            return None;
        }
        let mut changes = TopicChanges {
            missed: self.missed,
            ..TopicChanges::new(topic)
        };
        for (peer, change) in std::mem::take(self).by_peer {
            match change {
                Some(proof) => changes.joined.push(Member { peer, proof }),
                None => changes.left.push(peer),
            }
        }
        Some(changes)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    const TOPIC: TopicKey = TopicKey::from_bytes([7; 32]);

    fn member(n: usize) -> Member {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        Member {
            peer: PeerId::from_public_key(key),
            proof: MemberProof([3; 16]),
        }
    }

    #[test]
    fn the_last_change_of_each_peer_is_told() {
        let mut pending = PendingChanges::default();
        assert_eq!(pending.take(TOPIC), None);
        pending.joined(member(1));
        pending.left(member(1).peer);
        pending.left(member(2).peer);
        pending.joined(member(2));
        let told = pending.take(TOPIC).unwrap();
        assert_eq!(told.joined, [member(2)]);
        assert_eq!(told.left, [member(1).peer]);
        assert!(!told.missed);
        assert_eq!(pending.take(TOPIC), None);
    }

    #[test]
    fn more_than_there_is_room_for_is_told_as_a_gap() {
        let mut pending = PendingChanges::default();
        for n in 0..MAX_TOPIC_CHANGES {
            pending.joined(member(n));
        }
        let mut told = pending.take(TOPIC).unwrap();
        assert_eq!(told.joined.len(), MAX_TOPIC_CHANGES);
        pending.take_in(&told);
        pending.left(member(MAX_TOPIC_CHANGES).peer);
        told = pending.take(TOPIC).unwrap();
        assert!(told.missed && told.joined.is_empty() && told.left.is_empty());
        // Whoever takes it in tells of the gap too.
        pending.joined(member(1));
        pending.take_in(&told);
        assert!(pending.take(TOPIC).unwrap().missed);
        assert!(pending.is_empty());
    }
}
