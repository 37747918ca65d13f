//! The names of peers, which are their public keys.

use std::{fmt, str::FromStr};

use data_encoding::{BASE32_NOPAD, DecodeKind};

use crate::codec::wire::fields;

/// The name of a peer: its Ed25519 public key.
///
/// The text form is lower-case base32 (RFC 4648 section 6) without padding, 52 characters.
/// Parsing accepts upper case as well, since people read such names aloud.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);
fields!(PeerId { 0 });

/// The y coordinates of the points of small order on Curve25519 in Edwards form (RFC 8032 section
/// 5.1), those included that are not in their shortest form: 0, 1, the two of order 8, and p - 1 to
/// p + 1 for the prime p. The last bit, which is the sign of x, does not count.
const SMALL_ORDER: [[u8; 32]; 7] = {
    const fn near_prime(first: u8) -> [u8; 32] {
        let mut y = [0xff; 32];
        y[0] = first;
        y[31] = 0x7f;
        y
    }
    let mut one = [0; 32];
    one[0] = 1;
    [
        [0; 32],
        one,
        *b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\
           \xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
        *b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\
           \x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
        near_prime(0xec),
        near_prime(0xed),
        near_prime(0xee),
    ]
};

impl PeerId {
    /// The length of the text form in characters.
    pub const TEXT_LEN: usize = 52;

    /// Names the peer that holds this Ed25519 public key.
    #[must_use]
    pub const fn from_public_key(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Returns the Ed25519 public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Tells whether anybody can make signatures that this key seems to have made: it is a point of
    /// small order. No party has such a key, so whoever shows one is refused.
    #[must_use]
    pub fn is_forgeable(&self) -> bool {
        let mut y = self.0;
        y[31] &= 0x7f;
        SMALL_ORDER.contains(&y)
    }

    /// Tells whether the text of this id is that of another one with a slip of the pen: one
    /// character is different, or two neighbours have changed places. No two keys are so alike by
    /// chance.
    #[must_use]
    pub fn is_slip_of(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.to_string(), other.to_string());
        let pairs = ours.bytes().zip(theirs.bytes());
        let mut different = pairs.enumerate().filter(|(_, (a, b))| a != b);
        match (different.next(), different.next(), different.next()) {
            (Some(_), None, _) => true,
            (Some((i, (a, b))), Some((j, (c, d))), None) => j == i + 1 && (a, b) == (d, c),
            _ => false,
        }
    }

    /// Returns the first ten characters, enough to tell peers apart in a log line.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = ParsePeerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((position, character)) = text
            .char_indices()
            .find(|(_, c)| !matches!(c, 'a'..='z' | 'A'..='Z' | '2'..='7'))
        {
            return Err(ParsePeerIdError::Character {
                character,
                position,
            });
        }
        if text.len() != Self::TEXT_LEN {
            return Err(ParsePeerIdError::Length { found: text.len() });
        }
        let mut key = [0; 32];
        BASE32_NOPAD
            .decode_mut(text.to_ascii_uppercase().as_bytes(), &mut key)
            .map_err(|partial| match partial.error.kind {
                DecodeKind::Trailing => ParsePeerIdError::LastCharacter,
                DecodeKind::Length | DecodeKind::Symbol | DecodeKind::Padding => {
                    ParsePeerIdError::Length { found: text.len() }
                }
            })?;
        let id = Self(key);
        if id.is_forgeable() {
            return Err(ParsePeerIdError::Forgeable);
        }
        Ok(id)
    }
}

/// Why a text is not a peer id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePeerIdError {
    /// A character outside the base32 alphabet.
    #[error(
        "'{character}' at position {position} cannot occur in a peer id, \
         which has only the letters a to z and the digits 2 to 7"
    )]
    Character {
        /// The character found.
        character: char,
        /// Its place in bytes from the start.
        position: usize,
    },
    /// Anybody can claim to have this key.
    #[error("this is no peer id: anybody can claim to have this key")]
    Forgeable,
    /// The last character has bits beyond the 256 of a key.
    #[error("the last character of the peer id is wrong; was it copied whole?")]
    LastCharacter,
    /// Too short or too long.
    #[error("a peer id has 52 characters, this text has {found}")]
    Length {
        /// The number of characters found.
        found: usize,
    },
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_lower_case_and_round_trips() {
        let id = PeerId::from_public_key([0xA5; 32]);
        let text = id.to_string();
        assert_eq!(text.len(), PeerId::TEXT_LEN);
        assert_eq!(text, text.to_lowercase());
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
    }

    #[test]
    fn a_key_of_small_order_is_nobodys() {
        for y in SMALL_ORDER {
            let mut negative = y;
            negative[31] |= 0x80;
            for key in [y, negative] {
                let id = PeerId::from_public_key(key);
                assert!(id.is_forgeable());
                let text = id.to_string();
                assert_eq!(text.parse::<PeerId>(), Err(ParsePeerIdError::Forgeable));
            }
        }
        assert!(!PeerId::from_public_key([7; 32]).is_forgeable());
    }

    #[test]
    fn a_slip_of_the_pen_is_seen() {
        let text = PeerId::from_public_key([7; 32]).to_string();
        let id: PeerId = text.parse().unwrap();
        let slip = |text: &str| text.parse::<PeerId>().unwrap().is_slip_of(&id);
        assert!(!slip(&text), "it is the same");
        assert!(slip(&format!("x{}", &text[1..])));
        let neighbours = (1..50)
            .find(|i| text[*i..=*i] != text[i + 1..=i + 1])
            .unwrap();
        let (a, b) = (
            &text[neighbours..=neighbours],
            &text[neighbours + 1..=neighbours + 1],
        );
        let swapped = format!("{}{b}{a}{}", &text[..neighbours], &text[neighbours + 2..]);
        assert!(slip(&swapped), "{text} {swapped}");
        assert!(!slip(&format!("xy{}", &text[2..])));
        assert!(!PeerId::from_public_key([9; 32]).is_slip_of(&id));
    }

    #[test]
    fn bad_texts_say_what_is_wrong() {
        let good = PeerId::from_public_key([7; 32]).to_string();
        let cases = [
            (String::new(), ParsePeerIdError::Length { found: 0 }),
            (good[1..].to_owned(), ParsePeerIdError::Length { found: 51 }),
            (format!("{good}a"), ParsePeerIdError::Length { found: 53 }),
            (
                good.replacen(|_: char| true, "1", 1),
                ParsePeerIdError::Character {
                    character: '1',
                    position: 0,
                },
            ),
            (
                format!("{}é", &good[..51]),
                ParsePeerIdError::Character {
                    character: 'é',
                    position: 51,
                },
            ),
            (format!("{}7", &good[..51]), ParsePeerIdError::LastCharacter),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<PeerId>().unwrap_err(), error, "{text}");
        }
    }
}
