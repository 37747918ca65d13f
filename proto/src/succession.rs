//! How a coordinator changes its key: for a while it has two, and the old one names the new one.

use crate::{
    PeerId,
    codec::wire::{Wire as _, fields},
};

/// What the signature of a succession begins with, so that it is good for nothing else.
const CONTEXT: &[u8] = b"p2pconnect coordinator succession v1";

/// What is behind the id in the name that a peer asks a coordinator for.
const DOMAIN: &str = ".p2pconnect";

/// The word of a coordinator's former key that another key takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Succession {
    /// The id that goes with the former key.
    pub former: PeerId,
    /// The id that goes with the key in its place.
    pub successor: PeerId,
    /// The signature of the former key over [`signed`](Self::signed) (Ed25519, RFC 8032).
    pub signature: [u8; 64],
}
fields!(Succession {
    former,
    successor,
    signature
});

impl Succession {
    /// Returns the value of the extension that says so.
    #[must_use]
    pub fn to_value(&self) -> Vec<u8> {
        let mut value = Vec::new();
        self.write(&mut value);
        value
    }

    /// Reads the value of an extension.
    #[must_use]
    pub fn of_value(mut value: &[u8]) -> Option<Self> {
        Self::read(&mut value)
    }

    /// Returns what the former key signs.
    #[must_use]
    pub fn signed(former: &PeerId, successor: &PeerId) -> Vec<u8> {
        [CONTEXT, former.as_bytes(), successor.as_bytes()].concat()
    }
}

/// Returns the name by which a peer asks a coordinator to prove an id, in the handshake of TLS.
#[must_use]
pub fn server_name(id: &PeerId) -> String {
    format!("{id}{DOMAIN}")
}

/// Returns the id that a peer asks for by a name. `None` for one that says nothing.
#[must_use]
pub fn asked_for(server_name: &str) -> Option<PeerId> {
    server_name.strip_suffix(DOMAIN)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_asks_for_the_id_in_it() {
        let id = PeerId::from_public_key([7; 32]);
        let name = server_name(&id);
        assert_eq!(asked_for(&name), Some(id));
        // RFC 1035 section 2.3.4.
        assert!(name.split('.').all(|label| label.len() <= 63), "{name}");
        for nothing in [
            "p2pconnect",
            "",
            ".p2pconnect",
            "example.org",
            &id.to_string(),
        ] {
            assert_eq!(asked_for(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_value_that_is_cut_short_says_nothing() {
        let [former, successor] = [1, 2].map(|byte| PeerId::from_public_key([byte; 32]));
        let said = Succession {
            former,
            successor,
            signature: [3; 64],
        };
        let value = said.to_value();
        assert_eq!(
            (value.len(), Succession::of_value(&value)),
            (128, Some(said))
        );
        assert_eq!(Succession::of_value(&value[..127]), None);
    }

    #[test]
    fn what_is_signed_names_both() {
        let [one, other] = [1, 2].map(|byte| PeerId::from_public_key([byte; 32]));
        let signed = Succession::signed(&one, &other);
        assert_eq!(signed.len(), CONTEXT.len() + 64);
        assert_ne!(signed, Succession::signed(&other, &one));
    }
}
