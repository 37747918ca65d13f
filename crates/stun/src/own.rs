//! The attributes of our own, all of one type.
//!
//! RFC 8489 section 18.3 sets no attribute types aside for private use. So this is one number for
//! all, from the comprehension-optional range, which others ignore; and each value begins with a
//! marker, so that an attribute that somebody else has given the same number is told apart and
//! passed over.

use stun_types::{
    attribute::{AttributeType, RawAttribute},
    message::{Message, MessageWriteVec},
    prelude::{Attribute as _, MessageWriteExt as _},
};

/// The type of all of them, for which the IANA registry has no other meaning.
const TYPE: AttributeType = AttributeType::new(0xD2C0);

/// What each value begins with. Two bytes for the kind follow, and a multiple of four in all.
const MARKER: [u8; 10] = *b"p2pconnect";

/// Which of them it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// REFLEXIVE-COMMITMENT.
    Commitment = 1,
    /// REFLEXIVE-TOKEN.
    Token = 2,
    /// CONNECT-BACK.
    ConnectBack = 3,
    /// CONNECTED-BACK.
    ConnectedBack = 4,
}

impl Kind {
    const fn head(self) -> [u8; 2] {
        (self as u16).to_be_bytes()
    }
}

/// Puts one with this content into a message, which has no FINGERPRINT yet.
pub(crate) fn add(message: &mut MessageWriteVec, kind: Kind, content: &[u8]) {
    let value = [&MARKER[..], &kind.head(), content].concat();
    message
        .add_attribute(&RawAttribute::new(TYPE, &value))
        .expect("a message without FINGERPRINT takes attributes, a vector any number");
}

/// Returns the content of the first one of this kind.
pub(crate) fn find(message: &Message<'_>, kind: Kind) -> Option<Vec<u8>> {
    message.iter_attributes().find_map(|(_, attribute)| {
        let is_ours = attribute.get_type() == TYPE;
        let value: &[u8] = is_ours.then_some(&*attribute.value)?;
        let content = value.strip_prefix(&MARKER)?.strip_prefix(&kind.head())?;
        Some(content.to_vec())
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use stun_types::{message::BINDING, prelude::MessageWrite as _};

    use super::*;

    #[test]
    fn an_attribute_of_somebody_else_with_the_same_number_is_passed_over() {
        let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
        for foreign in [
            &b""[..],
            b"\x00\x01",
            b"vendor of another kind",
            b"p2pconnect",
        ] {
            message
                .add_attribute(&RawAttribute::new(TYPE, foreign))
                .unwrap();
        }
        add(&mut message, Kind::ConnectBack, &[2]);
        add(&mut message, Kind::Commitment, &[1]);
        let bytes = message.finish();
        let message = Message::from_bytes(&bytes).unwrap();
        assert_eq!(find(&message, Kind::Commitment), Some(vec![1]));
        assert_eq!(find(&message, Kind::ConnectBack), Some(vec![2]));
        assert_eq!(find(&message, Kind::Token), None);
    }
}
