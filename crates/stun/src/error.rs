//! Why a server tells no mapping.

use std::io;

use crate::framing::FrameError;

/// Why a mapping could not be learnt or was lost.
///
/// Only [`Bind`](Self::Bind) is about this host. All others mean that this STUN server does not
/// serve from here, which a caller may report as "STUN unreachable".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// The local address or port cannot be used.
    #[error("cannot bind the local address: {0}")]
    Bind(io::ErrorKind),
    /// Nothing listens at the server's address, or a firewall says so.
    #[error("the STUN server refused the connection")]
    Refused,
    /// No way leads to the server's address, as the network or this host reports.
    #[error("the STUN server is unreachable")]
    Unreachable,
    /// No connection within the time allowed.
    #[error("connecting to the STUN server timed out")]
    ConnectTimedOut,
    /// Connected, but no answer to a Binding request within the time allowed.
    #[error("the STUN server did not answer in time")]
    NoAnswer,
    /// The server closed the connection (FIN).
    #[error("the STUN server closed the connection")]
    Closed,
    /// The server, or something in between, reset the connection (RST).
    #[error("the connection to the STUN server was reset")]
    Reset,
    /// What listens there does not speak STUN.
    #[error("the server does not speak STUN over TCP: {0}")]
    NotStun(FrameError),
    /// The server's message is framed well but malformed, or lacks a usable mapped address.
    #[error("the STUN server sent a malformed answer")]
    MalformedAnswer,
    /// The server answered with an error response (RFC 8489 section 14.8).
    #[error("the STUN server rejected the request with error {0}")]
    Rejected(u16),
    /// Any other failure that the system reports.
    #[error("the connection to the STUN server failed: {0}")]
    Io(io::ErrorKind),
}

impl MappingError {
    /// Tells whether the fault is with the local address and not with the server or the way to
    /// it.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Bind(_))
    }

    pub(crate) fn from_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::ConnectTimedOut,
            // The pair of addresses is taken: the port is ours to choose.
            kind @ (io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse) => Self::Bind(kind),
            _ => Self::from_stream(error),
        }
    }

    pub(crate) fn from_stream(error: &io::Error) -> Self {
        if let Some(frame) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<FrameError>())
        {
            return match frame {
                FrameError::Truncated => Self::Closed,
                other => Self::NotStun(*other),
            };
        }
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::NoAnswer,
            kind => Self::Io(kind),
        }
    }
}
