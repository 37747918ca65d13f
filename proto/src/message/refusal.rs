//! Why a coordinator turns a request down, and for how long.

use std::{fmt, time::Duration};

use super::Extensions;
use crate::codec::wire::{Wire, fields, numbers, read_sized, write_sized};

/// What a coordinator says when it turns a request down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// After how many milliseconds the same request may be granted, where the coordinator knows.
    pub retry_after_ms: Option<u32>,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(Refusal {
    reason,
    retry_after_ms,
    extensions
});

impl Refusal {
    /// Returns a refusal after which the same request may be granted after some time.
    #[must_use]
    pub fn until(reason: RefusalReason, retry_after: Duration) -> Self {
        // Whole milliseconds upwards: whoever comes a little too early is refused again.
        let ms = retry_after.as_nanos().div_ceil(1_000_000);
        Self {
            retry_after_ms: Some(u32::try_from(ms).unwrap_or(u32::MAX)),
            ..reason.into()
        }
    }

    /// Returns after what time the same request may be granted, where the coordinator knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let ms = self.retry_after_ms?;
        Some(Duration::from_millis(ms.into()))
    }

    /// Returns the refusal as it is understood by a peer: with an extension that must not be passed
    /// over, it is one for no reason that is known.
    #[must_use]
    pub fn well_formed(self) -> Self {
        match self.extensions.unknown_required() {
            Some(_) => RefusalReason::Other.into(),
            None => self,
        }
    }
}

impl From<RefusalReason> for Refusal {
    fn from(reason: RefusalReason) -> Self {
        Self {
            reason,
            retry_after_ms: None,
            extensions: Extensions::default(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        match self.retry_after_ms {
            Some(ms) => write!(f, "; try again in {} s", ms.div_ceil(1000)),
            None if self.reason == RefusalReason::TooMany => {
                f.write_str("; wait a few seconds before the next")
            }
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why a coordinator turned a request down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The callee is not registered here, or its policy does not admit the dialler: one answer for
    /// both, since nobody else is to learn who is online. Also for a session that is not known.
    #[error("the peer is not online, or does not allow this peer id")]
    Unavailable,
    /// A peer cannot dial itself.
    #[error("a peer cannot dial itself")]
    OwnId,
    /// Too many requests or introductions in too short a time.
    #[error("too many requests")]
    TooMany,
    /// More candidates, allowed peers or extensions than the limits permit.
    #[error("the request holds more candidates, peer ids or extensions than allowed")]
    TooLarge,
    /// The coordinator has no room for another peer.
    #[error("the coordinator is full")]
    Full,
    /// The coordinator does not know something that the request cannot be carried out without.
    #[error("the coordinator does not know {0}; is it of an older version?")]
    Unsupported(Unsupported),
    /// Something else: what a reason is taken for that a peer does not know.
    #[error("for a reason that this version does not know")]
    Other,
    /// The peer may be at another coordinator, which cannot be asked at the moment.
    #[error("the peer is not with this coordinator, which cannot reach the others at the moment")]
    Apart,
    /// There is no room for another announcement or watch on the board.
    #[error("{0}")]
    NoRoom(Room),
}

impl RefusalReason {
    const fn number(self) -> u16 {
        match self {
            Self::Unavailable => 0,
            Self::OwnId => 1,
            Self::TooMany => 2,
            Self::TooLarge => 3,
            Self::Full => 4,
            Self::Unsupported(_) => 5,
            Self::Other => 6,
            Self::Apart => 7,
            Self::NoRoom(_) => 8,
        }
    }
}

/// With its length in front. An unknown one is [`Other`](RefusalReason::Other).
impl Wire for RefusalReason {
    fn write(&self, out: &mut Vec<u8>) {
        write_sized(out, |out| {
            self.number().write(out);
            match self {
                Self::Unsupported(what) => what.write(out),
                Self::NoRoom(room) => room.write(out),
                Self::Unavailable
                | Self::OwnId
                | Self::TooMany
                | Self::TooLarge
                | Self::Full
                | Self::Other
                | Self::Apart => {}
            }
        });
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let known = read_sized(bytes, |fields| {
            Some(match u16::read(fields)? {
                0 => Self::Unavailable,
                1 => Self::OwnId,
                2 => Self::TooMany,
                3 => Self::TooLarge,
                4 => Self::Full,
                5 => Self::Unsupported(Wire::read(fields)?),
                7 => Self::Apart,
                8 => Self::NoRoom(Wire::read(fields)?),
                _ => Self::Other,
            })
        })?;
        Some(known.unwrap_or(Self::Other))
    }
}

/// Where on the board there is no room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Room {
    /// At the peer that asks.
    #[error("this peer has as many topics on the board as a peer may have")]
    Peer,
    /// In the peer's IPv4 address or IPv6 /48.
    #[error("the network here has as many entries on the board as one may have")]
    Network,
    /// Under the topic.
    #[error("the topic has as many peers as a topic may have")]
    Topic,
    /// On the whole board.
    #[error("the board is full")]
    Board,
}
numbers!(Room { 0 Peer, 1 Network, 2 Topic, 3 Board });

/// Something that one side does not know, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// The kind of a request.
    #[error("request {0}")]
    Request(u16),
    /// The type of an extension that must not be passed over.
    #[error("extension {0:#06x}")]
    Extension(u16),
    /// A policy of a registration.
    #[error("dial policy {0}")]
    DialPolicy(u16),
}

impl Wire for Unsupported {
    fn write(&self, out: &mut Vec<u8>) {
        let (what, number): (u16, u16) = match *self {
            Self::Request(number) => (0, number),
            Self::Extension(number) => (1, number),
            Self::DialPolicy(number) => (2, number),
        };
        what.write(out);
        number.write(out);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (what, number) = (u16::read(bytes)?, u16::read(bytes)?);
        Some(match what {
            0 => Self::Request(number),
            1 => Self::Extension(number),
            2 => Self::DialPolicy(number),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let refusal = |nanos| Refusal::until(RefusalReason::TooMany, Duration::from_nanos(nanos));
        assert_eq!(refusal(0).retry_after_ms, Some(0));
        assert_eq!(refusal(1_000_000).retry_after_ms, Some(1));
        assert_eq!(refusal(1_000_001).retry_after_ms, Some(2));
        assert_eq!(refusal(u64::MAX).retry_after_ms, Some(u32::MAX));
        let said = Refusal::until(RefusalReason::TooMany, Duration::from_millis(2_001));
        assert_eq!(said.to_string(), "too many requests; try again in 3 s");
        assert_eq!(said.retry_after(), Some(Duration::from_millis(2_001)));
        assert_eq!(Refusal::from(RefusalReason::Full).retry_after(), None);
    }
}
