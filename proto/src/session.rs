use std::fmt;

use bincode::{Decode, Encode};
use subtle::ConstantTimeEq;

/// Which side of a session a peer is on (RFC 8445 section 6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Role {
    /// The dialler, which nominates the connection that both sides keep.
    Controlling,
    /// The peer that was dialled.
    Controlled,
}

/// The name of one introduction, known only to the two peers and their coordinator.
///
/// Either side sends it as the first bytes of a punched connection, so that a stranger's
/// connection is told apart before any cryptography is done. It proves nothing: that is the TLS
/// handshake's part.
#[derive(Clone, Copy, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct SessionToken([u8; 16]);

impl SessionToken {
    /// The length in bytes, on the wire and in memory.
    pub const LEN: usize = 16;

    /// Makes a token of 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes that open a punched connection.
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
