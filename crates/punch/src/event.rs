//! What an agent ends with.

use std::fmt;

use crate::{CandidatePair, CheckId, PunchReport};

/// What the agent has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This connection is the one. Every other has been closed.
    Established {
        /// The connection.
        check: CheckId,
        /// Its addresses.
        pair: CandidatePair,
        /// How it was opened, seen from this side.
        how: How,
    },
    /// There is no direct path, as far as could be found out in the time given.
    Failed(Box<PunchReport>),
}

/// How a connection was opened, seen from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// Both sides' SYNs crossed (RFC 9293 section 3.5, MUST-10).
    SimultaneousOpen,
    /// The peer connected to our listener.
    Accepted,
    /// We connected to the peer's listener.
    Connected,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SimultaneousOpen => "simultaneous-open",
            Self::Accepted => "accepted",
            Self::Connected => "connected",
        })
    }
}
