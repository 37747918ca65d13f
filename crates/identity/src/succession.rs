//! Keys that take the place of others.

use p2pconnect_proto::{PeerId, Succession};

use crate::{InvalidKey, SecretKey};

impl SecretKey {
    /// Says that another key takes the place of this one.
    ///
    /// # Errors
    ///
    /// None is expected: any key signs.
    pub fn succeeded_by(&self, successor: PeerId) -> Result<Succession, InvalidKey> {
        let former = self.peer_id();
        let signature = self.sign(&Succession::signed(&former, &successor))?;
        Ok(Succession {
            former,
            successor,
            signature,
        })
    }
}

/// Tells whether the former key has said so.
#[must_use]
pub fn is_signed(succession: &Succession) -> bool {
    let Succession {
        former,
        successor,
        signature,
    } = succession;
    let signed = Succession::signed(former, successor);
    let verified = webpki::ring::ED25519.verify_signature(former.as_bytes(), &signed, signature);
    !former.is_forgeable() && !successor.is_forgeable() && verified.is_ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn only_the_former_key_names_its_successor() {
        let [former, other] = [1, 2].map(|byte| SecretKey::from_seed(&[byte; 32]).unwrap());
        let successor = SecretKey::from_seed(&[3; 32]).unwrap().peer_id();
        let said = former.succeeded_by(successor).unwrap();
        assert!(is_signed(&said));
        let forged = Succession {
            former: former.peer_id(),
            ..other.succeeded_by(successor).unwrap()
        };
        assert!(!is_signed(&forged));
        let another = other.peer_id();
        assert!(!is_signed(&Succession {
            successor: another,
            ..said
        }));
        let mut damaged = said;
        damaged.signature[9] ^= 1;
        assert!(!is_signed(&damaged));
    }
}
