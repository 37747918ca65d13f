//! What a driver tells an agent.

use p2pconnect_proto::NatReport;

use crate::CheckId;

/// What the driver reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A connection of ours is open.
    Connected {
        /// The `Connect` this answers.
        check: CheckId,
        /// Which kind of open it was.
        opened: Opened,
    },
    /// A connection of ours will not open.
    ConnectFailed {
        /// The `Connect` this answers.
        check: CheckId,
        /// What came back.
        failure: ConnectFailure,
    },
    /// The driver of the controlling side uses a connection already, before the other end has
    /// answered on it.
    ///
    /// The peer may have taken it for the one, so it is not given up for being slow, and is in
    /// nobody's way.
    Used {
        /// The `Verify` that goes on.
        check: CheckId,
    },
    /// The other end is the peer; on the controlled side, it has also nominated this connection.
    ///
    /// The controlling side's driver sends the nomination when the agent answers with
    /// [`Established`](crate::Event::Established), not before: two connections may be verified at
    /// the same time, and only the first one wins.
    Verified {
        /// The `Verify` this answers.
        check: CheckId,
    },
    /// The other end is not the peer, or has gone.
    VerifyFailed {
        /// The `Verify` this answers.
        check: CheckId,
        /// What went wrong.
        failure: VerifyFailure,
    },
    /// More is known about our own NAT; it serves the report of a failure.
    LocalNat(NatReport),
}

/// Which way TCP took a connection of ours from SYN-SENT (RFC 9293 section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opened {
    /// The peer's SYN met ours: SYN-SENT, SYN-RECEIVED, ESTABLISHED.
    Simultaneously,
    /// The peer answered our SYN with SYN-ACK: SYN-SENT, ESTABLISHED.
    Actively,
}

/// What ended an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectFailure {
    /// A RST answered the SYN, or ICMP port unreachable (ECONNREFUSED).
    Refused,
    /// A RST came later (ECONNRESET).
    Reset,
    /// ICMP host unreachable or administratively prohibited (EHOSTUNREACH, EACCES).
    HostUnreachable,
    /// No route, or ICMP network unreachable (ENETUNREACH).
    NetworkUnreachable,
    /// The kernel gave up repeating the SYN (ETIMEDOUT).
    TimedOut,
    /// The local port could not be bound (EADDRINUSE).
    AddressInUse,
    /// A connection with these addresses exists already (EADDRNOTAVAIL): the peer's SYN reached
    /// our listener first, and the connection is waiting to be accepted.
    AddressNotAvailable,
    /// The system has no room for another socket (EMFILE, ENFILE, ENOBUFS, ENOMEM).
    NoResources,
    /// This side has sent too much in vain lately, and sends nothing more there for now.
    Withheld,
    /// Anything else the system said.
    Other,
}

/// What ended the verification of an open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerifyFailure {
    /// The other end is a stranger: it did not send the session token, or does not speak TLS.
    Stranger,
    /// The other end knows the session token but proved another identity than the peer's.
    WrongIdentity,
    /// The connection broke or closed.
    Closed,
    /// Nothing came in time.
    TimedOut,
}
