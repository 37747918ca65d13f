//! Topics of the bulletin board: peers find each other by a name that the coordinator cannot read.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{PeerId, codec::wire::fields};

/// What the secret is extracted with, so that the keys of topics are those of nothing else.
const SALT: &[u8] = b"p2pconnect board topic v1";

/// What stands in front of a peer id whose membership is proved.
const MEMBER_LABEL: &[u8] = b"p2pconnect board member v1";

/// A topic of the bulletin board: a name, and a secret perhaps.
///
/// A coordinator is told a hash of both. Whoever does not know the name and the secret can neither
/// tell what a topic is about nor become one of its members. A name that can be guessed is only as
/// good as the secret beside it, which should be random then.
#[derive(Clone, PartialEq, Eq)]
pub struct Topic {
    key: TopicKey,
    /// What members prove themselves to each other with. It never leaves them.
    membership: [u8; 32],
}

impl Topic {
    /// Returns the topic of this name, which everybody can find who guesses the name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::with_secret(name, &[])
    }

    /// Returns the topic of this name for those who know the secret. An empty one is none.
    ///
    /// The name is taken as it is: whoever writes it otherwise, be it in upper case, means another
    /// topic.
    #[must_use]
    pub fn with_secret(name: &str, secret: &[u8]) -> Self {
        // HKDF with SHA-256 (RFC 5869): of the secret, for the name, 64 bytes.
        let extracted = mac(SALT, &[secret]);
        let key = mac(&extracted, &[name.as_bytes(), &[1]]);
        let membership = mac(&extracted, &[&key, name.as_bytes(), &[2]]);
        Self {
            key: TopicKey(key),
            membership,
        }
    }

    /// Returns what a coordinator knows the topic by.
    #[must_use]
    pub const fn key(&self) -> TopicKey {
        self.key
    }

    /// Returns what shows other members that this peer is one.
    #[must_use]
    pub fn proof(&self, peer: &PeerId) -> MemberProof {
        let [proof, _] = halves(mac(&self.membership, &[MEMBER_LABEL, peer.as_bytes()]));
        MemberProof(proof)
    }

    /// Tells whether somebody is a member, and not named by whoever keeps the board.
    #[must_use]
    pub fn has(&self, member: &Member) -> bool {
        let mut expected = hmac(&self.membership);
        expected.update(MEMBER_LABEL);
        expected.update(member.peer.as_bytes());
        expected.verify_truncated_left(&member.proof.0).is_ok()
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.key).finish()
    }
}

/// What a coordinator knows a topic by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicKey([u8; 32]);
fields!(TopicKey { 0 });

impl TopicKey {
    /// Takes these bytes for the key of a topic.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first half, as a number. It tells topics apart, and looks none up.
    pub(crate) fn first_half(&self) -> u128 {
        let [half, _] = halves(self.0);
        u128::from_be_bytes(half)
    }
}

/// Shows the beginning: whoever has the whole can look the topic up.
impl fmt::Debug for TopicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, ..] = self.0;
        write!(f, "TopicKey({a:02x}{b:02x}{c:02x}..)")
    }
}

/// What shows the members of a topic that a peer is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberProof(pub [u8; 16]);
fields!(MemberProof { 0 });

/// A peer that has announced itself in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub peer: PeerId,
    /// What shows that it is a member.
    pub proof: MemberProof,
}
fields!(Member { peer, proof });

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn mac(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let mut mac = hmac(key);
    for part in message {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn halves(bytes: [u8; 32]) -> [[u8; 16]; 2] {
    let (first, second) = bytes.split_at(16);
    [first, second].map(|half| half.try_into().expect("half of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: PeerId = PeerId::from_public_key([0xA1; 32]);
    const BOB: PeerId = PeerId::from_public_key([0xB0; 32]);

    fn member(topic: &Topic, peer: PeerId) -> Member {
        Member {
            peer,
            proof: topic.proof(&peer),
        }
    }

    #[test]
    fn a_name_and_a_secret_are_another_topic_than_either_alone() {
        let topics = [
            Topic::new("chess"),
            Topic::new("Chess"),
            Topic::new(""),
            Topic::with_secret("chess", b"secret"),
            Topic::with_secret("chess", b"other"),
            // What is written one behind the other is not the same.
            Topic::with_secret("chesss", b"ecret"),
        ];
        for (i, topic) in topics.iter().enumerate() {
            for other in &topics[..i] {
                assert_ne!(topic.key(), other.key());
                assert!(!topic.has(&member(other, ALICE)));
            }
        }
        assert_eq!(Topic::with_secret("chess", b""), Topic::new("chess"));
    }

    #[test]
    fn a_member_is_known_by_its_proof_and_nobody_else_is() {
        let topic = Topic::with_secret("chess", b"secret");
        let alice = member(&topic, ALICE);
        assert!(topic.has(&alice));
        let bob = Member { peer: BOB, ..alice };
        assert!(!topic.has(&bob), "the proof is another peer's");
        // All that a coordinator knows beside the key of the topic is proofs.
        assert_ne!(topic.key().as_bytes()[..16], alice.proof.0);
    }

    #[test]
    fn what_is_shown_tells_neither_the_key_nor_what_members_know() {
        let topic = Topic::new("chess");
        let shown = format!("{topic:?}");
        assert!(shown.len() < 40, "{shown}");
    }
}
