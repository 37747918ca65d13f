//! What the controlled side says to the nomination, as its first application bytes.

use thiserror::Error;

/// The longest reason of a refusal, in bytes: a sentence, and no way to send much before one is
/// accepted.
pub const MAX_REASON: usize = 256;

const ACCEPTED: u8 = 1;
const REFUSED: u8 = 2;

/// The bytes of a refusal in front of its reason: the kind, and the reason's length as a u16.
const REFUSAL_HEADER: usize = 3;

/// The answer of the controlled side to the nomination of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NominationAnswer {
    /// The stream follows.
    Accepted,
    /// There is no stream, for this reason. The text is the peer's: whoever shows it escapes
    /// control characters.
    Refused(String),
}

/// How far an answer is that comes byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of the answer are still to come, at least. None of them belongs to the stream.
    Lacks(usize),
    /// The answer is whole.
    Whole(NominationAnswer),
}

/// What the controlled side has sent is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidAnswer {
    /// The first byte is neither of the two.
    #[error("the peer answers with {0:#04x}, which is no answer")]
    Kind(u8),
    /// The reason is longer than [`MAX_REASON`].
    #[error("the peer's reason is longer than {MAX_REASON} bytes")]
    TooLong,
}

impl NominationAnswer {
    /// Returns the answer's bytes. A reason that is too long is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Accepted => vec![ACCEPTED],
            Self::Refused(reason) => {
                let reason = &reason.as_bytes()[..reason.floor_char_boundary(MAX_REASON)];
                let len = u16::try_from(reason.len()).expect("it was cut to 256 bytes");
                [&[REFUSED][..], &len.to_be_bytes(), reason].concat()
            }
        }
    }

    /// Reads an answer from the bytes that have come of it. What is no UTF-8 in a reason is
    /// replaced.
    ///
    /// # Errors
    ///
    /// [`InvalidAnswer`], the peer's fault.
    pub fn decode(bytes: &[u8]) -> Result<Progress, InvalidAnswer> {
        match bytes {
            [] => Ok(Progress::Lacks(1)),
            [ACCEPTED, ..] => Ok(Progress::Whole(Self::Accepted)),
            [REFUSED, high, low, rest @ ..] => {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                if len > MAX_REASON {
                    return Err(InvalidAnswer::TooLong);
                }
                Ok(match rest.get(..len) {
                    Some(reason) => {
                        let reason = String::from_utf8_lossy(reason).into_owned();
                        Progress::Whole(Self::Refused(reason))
                    }
                    None => Progress::Lacks(len - rest.len()),
                })
            }
            [REFUSED, rest @ ..] => Ok(Progress::Lacks(REFUSAL_HEADER - 1 - rest.len())),
            [other, ..] => Err(InvalidAnswer::Kind(*other)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    /// Feeds an answer as the driver does: never more than it lacks.
    fn fed(bytes: &[u8]) -> Result<NominationAnswer, InvalidAnswer> {
        let mut come = 0;
        loop {
            match NominationAnswer::decode(&bytes[..come])? {
                Progress::Lacks(lacks) => come += lacks,
                Progress::Whole(answer) => {
                    assert_eq!(come, bytes.len(), "a byte of the stream was taken");
                    return Ok(answer);
                }
            }
        }
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_no_further() {
        let refused = |reason: &str| NominationAnswer::Refused(reason.to_owned());
        for answer in [
            NominationAnswer::Accepted,
            refused(""),
            refused("full"),
            refused(&"x".repeat(MAX_REASON)),
        ] {
            assert_eq!(fed(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = NominationAnswer::Refused("ä".repeat(MAX_REASON));
        let cut = NominationAnswer::Refused("ä".repeat(MAX_REASON / 2));
        assert_eq!(fed(&long.encode()), Ok(cut));
        let odd = NominationAnswer::Refused(format!("x{}", "ä".repeat(MAX_REASON)));
        assert_eq!(odd.encode().len(), REFUSAL_HEADER + MAX_REASON - 1);
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        assert_eq!(fed(&[0]), Err(InvalidAnswer::Kind(0)));
        assert_eq!(fed(&[3, 0, 0]), Err(InvalidAnswer::Kind(3)));
        assert_eq!(fed(&[REFUSED, 1, 1]), Err(InvalidAnswer::TooLong));
        let lossy = NominationAnswer::Refused("\u{FFFD}".to_owned());
        assert_eq!(fed(&[REFUSED, 0, 1, 0xFF]).unwrap(), lossy);
    }
}
