//! What the agent asks its driver to do.

use std::net::SocketAddr;

use crate::CheckId;

/// What the driver is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start to connect, from exactly `local`, and answer with `Connected` or `ConnectFailed`.
    ///
    /// The socket stays as it is until an answer comes or the agent says `Close`: the kernel's own
    /// retransmissions of the SYN keep the NAT open.
    Connect {
        /// Repeated by the answer.
        check: CheckId,
        /// The address to bind, with address and port reuse.
        local: SocketAddr,
        /// The address to connect to.
        remote: SocketAddr,
        /// What it is for.
        purpose: Purpose,
    },
    /// Find out whether the other end of an open connection is the peer, and answer with
    /// `Verified` or `VerifyFailed`.
    ///
    /// The controlling side sends the session token and its part of the TLS handshake; the
    /// controlled side expects them, and then the controlling side's nomination.
    Verify {
        /// The open connection.
        check: CheckId,
    },
    /// Abandon a connection or an attempt, with a reset, and forget the check.
    ///
    /// It also follows a `VerifyFailed`, and a `Connected` that came after the check was
    /// forgotten: a driver that knows nothing of the check any more has nothing to do.
    Close {
        /// The check to forget. No answer is expected.
        check: CheckId,
    },
}

/// What an attempt to connect is for, by which a driver can see what is in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The first one between two addresses.
    First,
    /// It repeats an attempt that was turned away.
    Again,
    /// One of hundreds, to or from a port of which nobody knows whether it is the right one.
    Guess,
}
