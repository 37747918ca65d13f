//! A STUN server's word that a peer was seen at an address.

use std::{fmt, net::SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::{PeerId, codec::wire::fields};

/// A STUN server's word that a peer was seen at an address until some moment.
///
/// Without it anybody could register somebody else's address as its own and have other peers
/// send SYNs there. The peer is named to the STUN server only by a salted hash, the
/// [commitment](Self::commitment), because STUN over TCP is readable on the way.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ReflexiveToken {
    /// The salt of the commitment, chosen by the peer.
    pub salt: [u8; 16],
    /// The end of validity in seconds since the Unix epoch.
    pub expires_at: u64,
    /// The server's HMAC-SHA256 over commitment, expiry and address, cut to 16 bytes.
    pub mac: [u8; 16],
}
fields!(ReflexiveToken {
    salt,
    expires_at,
    mac
});

impl ReflexiveToken {
    /// Returns what a peer shows a STUN server in place of its name: SHA-256 over a fixed label,
    /// the salt and the peer id.
    #[must_use]
    pub fn commitment(salt: &[u8; 16], peer: &PeerId) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"p2pconnect reflexive commitment v1");
        hash.update(salt);
        hash.update(peer.as_bytes());
        hash.finalize().into()
    }
}

impl fmt::Debug for ReflexiveToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReflexiveToken")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The secret that a coordinator shares with its STUN servers.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// Makes a key of 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Attests that whoever made `commitment` was seen at `address`.
    #[must_use]
    pub fn mint(&self, commitment: &[u8; 32], address: SocketAddr, expires_at: u64) -> [u8; 16] {
        let digest = self
            .authenticator(commitment, address, expires_at)
            .finalize()
            .into_bytes();
        let mut mac = [0; 16];
        mac.copy_from_slice(&digest[..16]);
        mac
    }

    /// Tells whether `token` attests `peer` at `address` and has not expired at `now`, in
    /// seconds since the Unix epoch.
    #[must_use]
    pub fn verify(
        &self,
        token: &ReflexiveToken,
        peer: &PeerId,
        address: SocketAddr,
        now: u64,
    ) -> bool {
        let commitment = ReflexiveToken::commitment(&token.salt, peer);
        now <= token.expires_at
            && self
                .authenticator(&commitment, address, token.expires_at)
                .verify_truncated_left(&token.mac)
                .is_ok()
    }

    fn authenticator(
        &self,
        commitment: &[u8; 32],
        address: SocketAddr,
        expires_at: u64,
    ) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(commitment);
        mac.update(&expires_at.to_be_bytes());
        match address {
            SocketAddr::V4(v4) => mac.update(&v4.ip().octets()),
            SocketAddr::V6(v6) => mac.update(&v6.ip().octets()),
        }
        mac.update(&address.port().to_be_bytes());
        mac
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_attested_peer_address_and_time_pass() {
        let key = TokenKey::from_bytes([9; 32]);
        let (peer, other) = (
            PeerId::from_public_key([1; 32]),
            PeerId::from_public_key([2; 32]),
        );
        let address = SocketAddr::from(([192, 0, 2, 1], 40_000));
        let salt = [3; 16];
        let mac = key.mint(&ReflexiveToken::commitment(&salt, &peer), address, 100);
        let token = ReflexiveToken {
            salt,
            expires_at: 100,
            mac,
        };

        assert!(key.verify(&token, &peer, address, 100));
        assert!(!key.verify(&token, &peer, address, 101));
        assert!(!key.verify(&token, &other, address, 100));
        assert!(!key.verify(
            &token,
            &peer,
            SocketAddr::from(([192, 0, 2, 1], 40_001)),
            100
        ));
        assert!(!key.verify(
            &ReflexiveToken {
                expires_at: 200,
                ..token.clone()
            },
            &peer,
            address,
            100
        ));
        assert!(!TokenKey::from_bytes([8; 32]).verify(&token, &peer, address, 100));
    }
}
