//! The application error codes with which QUIC connections and streams end (RFC 9000 section 20.2).
//!
//! A connection close carries a [`Close`] and a short reason in English for people. A stream reset
//! or stop carries the code alone.

use std::time::Duration;

/// The bits of an error code that are the code; those above are the time to come back.
const CODE_BITS: u32 = 16;

/// The longest time to come back in milliseconds: an error code has 62 bits (RFC 9000 section 16).
const MAX_RETRY_AFTER_MS: u64 = (1 << (62 - CODE_BITS)) - 1;

/// What a connection is closed with: why, and when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// One of the codes below, or an unknown one, which is to be taken for [`GOING_AWAY`]. Less
    /// than 65,536.
    pub code: u32,
    /// When to come back, if it is said. Otherwise that follows from the code.
    pub retry_after: Option<Duration>,
}

impl Close {
    /// Reads the application error code of a QUIC connection's end.
    #[must_use]
    pub const fn from_wire(error_code: u64) -> Self {
        let ms = error_code >> CODE_BITS;
        Self {
            // Only these bits are left.
            code: (error_code & ((1 << CODE_BITS) - 1)) as u32,
            retry_after: match ms {
                0 => None,
                ms => Some(Duration::from_millis(ms)),
            },
        }
    }

    /// Returns the application error code.
    #[must_use]
    pub fn to_wire(self) -> u64 {
        // Whole milliseconds upwards, so that no time becomes none.
        let ms = self.retry_after.unwrap_or_default();
        let ms = ms.as_nanos().div_ceil(1_000_000);
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        ms.min(MAX_RETRY_AFTER_MS) << CODE_BITS | u64::from(self.code)
    }
}

/// Nothing more is wanted. What a peer closes with when it leaves.
pub const DONE: u32 = 0;

/// The coordinator shuts down; try again later or elsewhere.
pub const GOING_AWAY: u32 = 1;

/// The other side broke this protocol; trying the same again will fail the same way.
pub const PROTOCOL_VIOLATION: u32 = 2;

/// The same peer id has registered over another connection since. Whoever receives this must not
/// register again by itself, or two processes with one key would replace each other for ever.
pub const REPLACED: u32 = 3;

/// The coordinator has no room; try again after some seconds.
pub const OVERLOADED: u32 = 4;

/// The other side took too long to send or to receive something.
pub const TIMED_OUT: u32 = 5;

/// The side that closes has failed itself.
pub const INTERNAL: u32 = 6;

/// The coordinator does not serve this peer id; try again when its operator has allowed it.
pub const NOT_SERVED: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_without_a_time_is_the_code() {
        for code in [DONE, GOING_AWAY, INTERNAL, 0xFFFF] {
            let close = Close {
                code,
                retry_after: None,
            };
            assert_eq!(close.to_wire(), u64::from(code));
            assert_eq!(Close::from_wire(code.into()), close);
        }
    }

    #[test]
    fn the_time_is_in_the_bits_above_in_whole_milliseconds() {
        let close = |retry_after| Close {
            code: GOING_AWAY,
            retry_after: Some(retry_after),
        };
        let wire = close(Duration::from_millis(2_500)).to_wire();
        assert_eq!(wire, 2_500 << 16 | 1);
        assert_eq!(Close::from_wire(wire), close(Duration::from_millis(2_500)));
        assert_eq!(close(Duration::from_nanos(1)).to_wire(), 1 << 16 | 1);
        assert_eq!(close(Duration::ZERO).to_wire(), 1);
        let longest = close(Duration::MAX).to_wire();
        assert!(longest < 1 << 62, "an error code has 62 bits");
        assert_eq!(Close::from_wire(longest).code, GOING_AWAY);
    }
}
