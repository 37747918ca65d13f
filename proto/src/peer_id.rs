use std::{fmt, str::FromStr};

use bincode::{Decode, Encode};
use data_encoding::{BASE32_NOPAD, DecodeKind};

/// The name of a peer: its Ed25519 public key.
///
/// The text form is lower-case base32 (RFC 4648 section 6) without padding, 52 characters.
/// Parsing accepts upper case as well, since people read such names aloud.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PeerId([u8; 32]);

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
        Ok(Self(key))
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
