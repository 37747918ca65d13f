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
    /// This machine does not have the local address, or none to send from (EADDRNOTAVAIL before
    /// anything was sent).
    NoLocalAddress,
    /// The system does not let this process connect there (EPERM).
    NotPermitted,
    /// The system has no room for another socket (EMFILE, ENFILE, ENOBUFS, ENOMEM).
    NoResources,
    /// This side has sent too much in vain lately, and sends nothing more there for now.
    Withheld,
    /// Anything else the system said.
    Other,
}

impl ConnectFailure {
    /// Tells what on this machine kept it from sending anything, where that is why; of a route that
    /// is missing, that nothing was sent has to be known.
    pub(crate) const fn local_cause(self, was_sent: bool) -> Option<&'static str> {
        Some(match self {
            Self::AddressInUse => "the local ports are in use",
            Self::NoLocalAddress => "it has no address to send from",
            Self::NotPermitted => "its system does not permit it",
            Self::NoResources => "it has no sockets left",
            Self::Other => "its system reports an error",
            Self::NetworkUnreachable if !was_sent => "it has no route there",
            Self::HostUnreachable if !was_sent => "its routes or its firewall forbid it",
            Self::Refused
            | Self::Reset
            | Self::HostUnreachable
            | Self::NetworkUnreachable
            | Self::TimedOut
            | Self::AddressNotAvailable
            | Self::Withheld => return None,
        })
    }
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
