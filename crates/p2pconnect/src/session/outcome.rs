//! What comes of a session.

use std::{io, time::Duration};

use p2pconnect_punch::PunchReport;
use tokio::sync::oneshot;

use crate::stream::punched::Punched;

/// A connection, and what tells if it comes to nothing before the peer has answered on it, if that
/// may be.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) punched: Punched,
    pub(crate) lost: Option<Lost>,
}

/// Tells why a connection that was used before the peer had answered on it has come to nothing, if
/// the peer has not got what was sent. Without a word, the peer has answered, or may have got it.
pub(crate) type Lost = oneshot::Receiver<SessionError>;

/// Why a session ended without a connection.
#[derive(Debug)]
pub(crate) enum SessionError {
    /// The agent found no path.
    NoPath(Box<PunchReport>),
    /// The connection broke while it was nominated.
    Broken(io::Error),
    /// The peer has given the introduction up. So much had been tried.
    PeerLeft(Box<PunchReport>),
    /// The peer has not taken the introduction up.
    PeerBusy,
    /// The coordinator has heard nothing of the peer for so long.
    PeerSilent(Duration),
    /// The time was over before anything had come from the peer, and before a coordinator tells
    /// whether it is there. So long it had been.
    PeerUnheard(Duration),
}
