//! Shows that what a node says comes from a node of the same cluster, and is meant here and now.

use std::{fmt, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::NodeMessage;
use crate::{
    TokenKey,
    codec::{self, DecodeError, EncodeError, HEADER_LEN, Wire},
};

/// How far apart the clocks of two nodes may be, and how old a message may be that is repeated by
/// somebody else.
pub const MAX_AGE: Duration = Duration::from_secs(60);

/// What is hashed in front of each message, so that its code is none of anything else.
const LABEL: &[u8] = b"p2pconnect node message v1";

/// What makes the key of tokens out of that of nodes.
const TOKENS: &[u8] = b"p2pconnect node tokens v1";

/// What makes the name of a cluster out of that key.
const NAME: &[u8] = b"p2pconnect cluster name v1";

/// The length of the code behind a message.
const MAC: usize = 32;

/// The secret that the nodes of a cluster share.
///
/// Whoever has it is a node. Whoever can only send to nodes, or read what they send, is none.
#[derive(Clone)]
pub struct NodeKey([u8; 32]);

impl NodeKey {
    /// Makes a key of 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the key with which the STUN servers of all nodes attest addresses.
    #[must_use]
    pub fn token_key(&self) -> TokenKey {
        let mac = self.authenticator(TOKENS);
        TokenKey::from_bytes(mac.finalize().into_bytes().into())
    }

    /// Returns the name by which clients know that coordinators belong together.
    #[must_use]
    pub fn cluster_name(&self) -> [u8; 32] {
        self.authenticator(NAME).finalize().into_bytes().into()
    }

    /// Writes a message to a subject at `now`, in seconds since the Unix epoch.
    ///
    /// An answer is written to what it answers, sealed, in the place of a subject.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when the message is too long for a frame.
    pub fn seal(&self, to: &[u8], message: &NodeMessage, now: u64) -> Result<Vec<u8>, EncodeError> {
        let mut sealed = Vec::from(now.to_be_bytes());
        sealed.extend_from_slice(&codec::encode(message)?[HEADER_LEN..]);
        let code = self.code(to, &sealed).finalize().into_bytes();
        sealed.extend_from_slice(&code);
        Ok(sealed)
    }

    /// Reads what has come to a subject, or as the answer to something sealed, at `now`.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the bytes are somebody else's fault.
    pub fn open(&self, to: &[u8], sealed: &[u8], now: u64) -> Result<NodeMessage, OpenError> {
        let (body, code) = sealed.split_last_chunk::<MAC>().ok_or(OpenError::Forged)?;
        let verified = self.code(to, body).verify_slice(code);
        verified.map_err(|_| OpenError::Forged)?;
        let mut rest = body;
        let sent_at = u64::read(&mut rest).ok_or(OpenError::Forged)?;
        if sent_at.abs_diff(now) > MAX_AGE.as_secs() {
            return Err(OpenError::OutOfTime { sent_at });
        }
        Ok(codec::decode(rest)?)
    }

    fn code(&self, to: &[u8], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.authenticator(LABEL);
        mac.update(&(to.len() as u64).to_be_bytes());
        mac.update(to);
        mac.update(body);
        mac
    }

    fn authenticator(&self, label: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        let mut mac = mac.expect("HMAC takes keys of any length");
        mac.update(label);
        mac
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

/// Why what has come is nothing that a node says to this one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It was not sealed with the same key for the same subject.
    #[error("the message is of no node with the same key")]
    Forged,
    /// It is too old, or the clocks of two machines differ too much.
    #[error("the message was sent at {sent_at}, in seconds since 1970: do the clocks agree?")]
    OutOfTime {
        /// When it was sent, in seconds since the Unix epoch.
        sent_at: u64,
    },
    /// It is of a node, and malformed.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;
    use crate::nodes::{NodeContent, NodeId};

    const NOW: u64 = 1_900_000_000;

    fn message() -> NodeMessage {
        NodeMessage {
            from: NodeId::from_bytes([7; 16]),
            content: NodeContent::Leaving,
        }
    }

    #[test]
    fn only_a_node_with_the_key_is_understood_and_only_where_it_speaks_to() {
        let key = NodeKey::from_bytes([1; 32]);
        let sealed = key.seal(b"all", &message(), NOW).unwrap();
        assert_eq!(key.open(b"all", &sealed, NOW), Ok(message()));
        let other = NodeKey::from_bytes([2; 32]);
        assert_eq!(other.open(b"all", &sealed, NOW), Err(OpenError::Forged));
        assert_eq!(key.open(b"one", &sealed, NOW), Err(OpenError::Forged));
        for at in 0..sealed.len() {
            let mut spoilt = sealed.clone();
            spoilt[at] ^= 1;
            assert_eq!(key.open(b"all", &spoilt, NOW), Err(OpenError::Forged));
            assert_eq!(key.open(b"all", &sealed[..at], NOW), Err(OpenError::Forged));
        }
    }

    #[test]
    fn what_is_repeated_later_is_nothing() {
        let key = NodeKey::from_bytes([1; 32]);
        let sealed = key.seal(b"all", &message(), NOW).unwrap();
        let age = MAX_AGE.as_secs();
        for (now, is_read) in [
            (NOW + age, true),
            (NOW - age, true),
            (NOW + age + 1, false),
            (NOW - age - 1, false),
        ] {
            assert_eq!(key.open(b"all", &sealed, now).is_ok(), is_read, "{now}");
        }
    }

    #[test]
    fn the_key_of_tokens_is_another_one() {
        let key = NodeKey::from_bytes([1; 32]);
        let address = ([192, 0, 2, 1], 1).into();
        let minted = |key: TokenKey| key.mint(&[3; 32], address, NOW);
        assert_eq!(minted(key.token_key()), minted(key.token_key()));
        assert_ne!(
            minted(key.token_key()),
            minted(TokenKey::from_bytes([1; 32]))
        );
    }
}
