//! The token of a session, and what each side opens a connection with.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::codec::wire::{fields, numbers};

/// Which side of a session a peer is on (RFC 8445 section 6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The dialler, which nominates the connection that both sides keep.
    Controlling,
    /// The peer that was dialled.
    Controlled,
}
numbers!(Role { 0 Controlling, 1 Controlled });

impl Role {
    /// Returns the other side's role.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Controlling => Self::Controlled,
            Self::Controlled => Self::Controlling,
        }
    }
}

/// What is hashed in front of role and token, so that an opening is the hash of nothing else.
const OPENING_LABEL: &[u8] = b"p2pconnect session opening v1";

/// The name of one introduction, known only to the two peers and their coordinator.
///
/// It never travels on a connection between the two, whose first bytes are an [`Opening`].
#[derive(Clone, Copy, Eq, PartialOrd, Ord)]
pub struct SessionToken([u8; 16]);
fields!(SessionToken { 0 });

impl SessionToken {
    /// The length in bytes, on the wire and in memory.
    pub const LEN: usize = 16;

    /// Makes a token of 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Returns what the side with this role sends first on each connection.
    #[must_use]
    pub fn opening(&self, role: Role) -> Opening {
        let mut hash = Sha256::new();
        hash.update(OPENING_LABEL);
        hash.update([match role {
            Role::Controlling => 0,
            Role::Controlled => 1,
        }]);
        hash.update(self.0);
        let hash: [u8; 32] = hash.finalize().into();
        let (opening, _) = hash
            .split_first_chunk()
            .expect("a hash of 32 bytes holds 16");
        Opening(*opening)
    }

    /// Returns the bytes as they are in messages.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl PartialEq for SessionToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

/// The first bytes that a side sends on a connection of a session: a hash over its role and the
/// [`SessionToken`].
///
/// A stranger's connection is told apart by it before any cryptography is done. It proves nothing:
/// that is the TLS handshake's part. Since it is a hash, a coordinator cannot choose what peers
/// write to the addresses that it names; since it depends on the role, a service that sends back
/// what it receives is not taken for the peer.
#[derive(Clone, Copy, Eq, PartialOrd, Ord)]
pub struct Opening([u8; Self::LEN]);

impl Opening {
    /// The length in bytes.
    pub const LEN: usize = 16;

    /// Takes the first bytes of a connection for what they may be.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl PartialEq for Opening {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_belongs_to_a_role_and_a_token() {
        let token = SessionToken::from_bytes([7; SessionToken::LEN]);
        let other = SessionToken::from_bytes([8; SessionToken::LEN]);
        let ours = token.opening(Role::Controlling);
        assert_ne!(
            ours,
            token.opening(Role::Controlled),
            "an echo proves nothing"
        );
        assert_ne!(ours, other.opening(Role::Controlling));
        assert_ne!(ours.as_bytes(), token.as_bytes());
    }
}
