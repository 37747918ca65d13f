//! How a peer shows a private coordinator that it has been invited.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::PeerId;

/// The fewest bytes of a secret. Whoever has seen a proof can try out secrets, as fast as hardware
/// goes.
const MIN_SECRET: usize = 16;

/// The most bytes of a secret.
const MAX_SECRET: usize = 256;

/// A secret that its holder may use a private coordinator by, whatever the holder's peer id is.
///
/// It is never sent. What is sent is an HMAC by it of both ids, which TLS proves: it is of use to
/// this peer at this coordinator alone.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteSecret(Box<str>);

/// Why a text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an invite secret has {MIN_SECRET} to {MAX_SECRET} characters of ASCII without spaces")]
pub struct InvalidInviteSecret;

impl InviteSecret {
    /// Makes a secret of its text: 16 to 256 characters of ASCII without spaces, which should be
    /// random.
    ///
    /// # Errors
    ///
    /// [`InvalidInviteSecret`] if the text is none.
    pub fn new(text: &str) -> Result<Self, InvalidInviteSecret> {
        let is_graphic = text.bytes().all(|it| it.is_ascii_graphic());
        if (MIN_SECRET..=MAX_SECRET).contains(&text.len()) && is_graphic {
            Ok(Self(text.into()))
        } else {
            Err(InvalidInviteSecret)
        }
    }

    /// Returns what proves to this coordinator that this peer knows the secret.
    #[must_use]
    pub fn prove(&self, coordinator: &PeerId, peer: &PeerId) -> [u8; 32] {
        let proof = self.authenticator(coordinator, peer).finalize();
        proof.into_bytes().into()
    }

    /// Tells whether this is such a proof. Takes as long whatever it is.
    #[must_use]
    pub fn verify(&self, proof: &[u8; 32], coordinator: &PeerId, peer: &PeerId) -> bool {
        let expected = self.authenticator(coordinator, peer);
        expected.verify_slice(proof).is_ok()
    }

    fn authenticator(&self, coordinator: &PeerId, peer: &PeerId) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(b"p2pconnect invite v1");
        mac.update(coordinator.as_bytes());
        mac.update(peer.as_bytes());
        mac
    }
}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSecret(..)")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_one_peer_at_one_coordinator() {
        let [server, other, peer] = [1, 2, 3].map(|it| PeerId::from_public_key([it; 32]));
        let secret = InviteSecret::new("correct-horse-battery").unwrap();
        let proof = secret.prove(&server, &peer);
        assert!(secret.verify(&proof, &server, &peer));
        assert!(!secret.verify(&proof, &other, &peer));
        assert!(!secret.verify(&proof, &server, &other));
        assert!(!secret.verify(&proof, &peer, &server));
        let another = InviteSecret::new("correct-horse-batterz").unwrap();
        assert!(!another.verify(&proof, &server, &peer));
    }

    #[test]
    fn a_secret_is_long_and_can_be_written_down() {
        for wrong in [
            "",
            "fifteen-letters",
            "sixteen letters-",
            "sixteen-lettersé",
        ] {
            assert_eq!(
                InviteSecret::new(wrong),
                Err(InvalidInviteSecret),
                "{wrong}"
            );
        }
        assert!(InviteSecret::new(&"a".repeat(MAX_SECRET + 1)).is_err());
        let secret = InviteSecret::new("sixteen-letters.").unwrap();
        assert!(!format!("{secret:?}").contains("sixteen"));
    }
}
