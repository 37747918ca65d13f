//! How connections end, and with which codes.

use std::fmt;

use p2pconnect_proto::close::Close;

/// The code with which a connection or a stream is ended, one of [`p2pconnect_proto::close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCode(pub(crate) u64);

impl From<u32> for CloseCode {
    fn from(code: u32) -> Self {
        Self(code.into())
    }
}

impl From<Close> for CloseCode {
    fn from(close: Close) -> Self {
        Self(close.to_wire())
    }
}

impl CloseCode {
    /// Returns what a connection's end says by it.
    #[must_use]
    pub const fn close(self) -> Close {
        Close::from_wire(self.0)
    }
}

/// Why a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The other side has closed it.
    Closed {
        /// With this code.
        code: CloseCode,
        /// In these words, which are the other side's and may be anything.
        words: String,
    },
    /// This side has closed it.
    ClosedHere,
    /// Nothing has come from the other side for too long.
    Silence,
    /// The other side does not know the connection any more.
    Reset,
    /// The transport has failed, in its words.
    Failed(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { code, words } => {
                write!(f, "closed by the other side ({}): {words}", code.0)
            }
            Self::ClosedHere => f.write_str("closed by this side"),
            Self::Silence => f.write_str("timed out"),
            Self::Reset => f.write_str("reset by the other side"),
            Self::Failed(words) => f.write_str(words),
        }
    }
}

/// Why a stream is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The connection has ended.
    #[error("the connection has ended: {0}")]
    Ended(End),
    /// The other side has given the stream up.
    #[error("the other side has given the stream up ({})", .0.0)]
    GivenUp(CloseCode),
    /// This side has ended it already.
    #[error("the stream is over")]
    Over,
}
