//! The words for sockets and what becomes of them.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::HostId;

/// A socket of one host: a UDP socket, a TCP listener or a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    pub(super) host: HostId,
    pub(super) number: u64,
}

impl SocketId {
    /// Returns the host that the socket belongs to.
    pub const fn host(self) -> HostId {
        self.host
    }
}

/// Returns whether some packet would be for both of two addresses that sockets are bound to: they
/// are the same, or one is the unspecified one of their family.
pub fn addresses_overlap(one: IpAddr, other: IpAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    same_family && (one == other || one.is_unspecified() || other.is_unspecified())
}

/// How far a socket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketState {
    /// In SYN-SENT, or in SYN-RECEIVED after a simultaneous open.
    Connecting,
    /// Established, with either direction possibly closed since.
    Connected,
    /// Closed in both directions, in order.
    Closed,
    /// Ended by something else than both sides' wish.
    Failed(Failure),
}

/// How a connection came about, as this end saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opening {
    /// Our SYN was answered by a SYN-ACK.
    Active,
    /// A SYN came in while ours was unanswered (RFC 9293 section 3.5, figure 8).
    Simultaneous,
    /// A listener took the other end's SYN.
    Passive,
}

/// Why a connection or its attempt ended; what Linux would say is in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// RST in answer to a SYN, or port unreachable (`ECONNREFUSED`).
    #[error("connection refused")]
    Refused,
    /// RST later on (`ECONNRESET`).
    #[error("connection reset by the peer")]
    Reset,
    /// Host unreachable, filtered, or time exceeded (`EHOSTUNREACH`).
    #[error("host unreachable")]
    HostUnreachable,
    /// Network unreachable or filtered (`ENETUNREACH`).
    #[error("network unreachable")]
    NetworkUnreachable,
    /// Forbidden by policy, IPv6 only (`EACCES`).
    #[error("administratively prohibited")]
    Prohibited,
    /// Protocol unreachable (`ENOPROTOOPT`).
    #[error("protocol unreachable")]
    ProtocolUnreachable,
    /// Parameter problem, or an unknown code (`EPROTO`).
    #[error("protocol error")]
    ProtocolError,
    /// No answer to any of our SYNs (`ETIMEDOUT`).
    #[error("connection timed out")]
    TimedOut,
}

/// Why a call on a socket did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The host does not have the local address, the two ends are not of one family, or a
    /// connection between just these ends exists (`EADDRNOTAVAIL`).
    #[error("address not available")]
    AddressNotAvailable,
    /// Somebody has that port already, or there is none left (`EADDRINUSE`).
    #[error("address in use")]
    AddressInUse,
    /// The host has no address to send from (`ENETUNREACH`).
    #[error("network unreachable")]
    NetworkUnreachable,
    /// The connection is not established, or closed in that direction.
    #[error("not connected")]
    NotConnected,
    /// A packet would be longer than the host's link carries (`EMSGSIZE`).
    #[error("message too long")]
    MessageTooLong,
    /// The socket was closed or aborted.
    #[error("no such socket")]
    UnknownSocket,
    /// The connection had ended, or an ICMP error has come for a UDP socket.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl SocketError {
    /// Returns the kind of what Linux would say.
    #[must_use]
    pub const fn kind(self) -> ErrorKind {
        match self {
            Self::AddressNotAvailable => ErrorKind::AddrNotAvailable,
            Self::AddressInUse => ErrorKind::AddrInUse,
            Self::NetworkUnreachable | Self::Failed(Failure::NetworkUnreachable) => {
                ErrorKind::NetworkUnreachable
            }
            Self::NotConnected | Self::UnknownSocket => ErrorKind::NotConnected,
            Self::MessageTooLong => ErrorKind::InvalidInput,
            Self::Failed(Failure::Refused) => ErrorKind::ConnectionRefused,
            Self::Failed(Failure::Reset) => ErrorKind::ConnectionReset,
            Self::Failed(Failure::HostUnreachable) => ErrorKind::HostUnreachable,
            Self::Failed(Failure::Prohibited) => ErrorKind::PermissionDenied,
            Self::Failed(Failure::TimedOut) => ErrorKind::TimedOut,
            Self::Failed(Failure::ProtocolUnreachable | Failure::ProtocolError) => ErrorKind::Other,
        }
    }
}

/// What a TCP socket asks for beside what all do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpOptions {
    /// The longest segment that is sent, and that the other end is told to send
    /// (`TCP_MAXSEG`).
    pub largest_segment: Option<u16>,
    /// The largest window that is offered (`TCP_WINDOW_CLAMP`); one that fits into 16
    /// bits is offered without a scale.
    pub window: Option<u32>,
    /// Asks on an idle connection whether the other end is there (`SO_KEEPALIVE`).
    pub keep_alive: Option<KeepAlive>,
}

/// How an idle connection is asked whether its other end is there (RFC 9293 section
/// 3.8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeepAlive {
    /// How long it is idle before the first question.
    pub idle: Duration,
    /// How long after each question the next one follows.
    pub interval: Duration,
    /// How many questions without an answer end it, one interval after the last.
    pub questions: u32,
}

/// What Linux tells of a connection (`TCP_INFO`, `SIOCOUTQ`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TcpInfo {
    /// Whether the other end's SYN has come, in answer to ours or across it.
    pub is_met: bool,
    /// Whether windows are scaled: both SYNs had the option, as this end saw them.
    pub is_scaled: bool,
    /// The shortest round trip that has been measured, if one has.
    pub round_trip: Option<Duration>,
    /// The bytes of data that the longest segment carries.
    pub largest_segment: u16,
    /// How long nothing has come, if something had to be sent again or was asked without an answer.
    pub unanswered_for: Option<Duration>,
    /// Bytes that the other end has not acknowledged, sent or not, FIN being one.
    pub outstanding: usize,
    /// Whether anything has come behind something that was missing.
    pub has_come_out_of_order: bool,
}

/// A connection out of a listener's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Accepted {
    /// Its socket.
    pub socket: SocketId,
    /// The end on the listening host.
    pub local: SocketAddr,
    /// The other end, as the host saw it.
    pub remote: SocketAddr,
}

/// A UDP datagram to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transmit<'a> {
    /// Whom it is for.
    pub destination: SocketAddr,
    /// The address of the host to send it from, if not that of the socket.
    pub source: Option<IpAddr>,
    /// The ECN codepoint (RFC 3168 section 5), two bits.
    pub ecn: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

/// A UDP datagram that has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Datagram {
    /// Whom it is from, as the host sees it.
    pub source: SocketAddr,
    /// The very address that it came to, and the port.
    pub destination: SocketAddr,
    /// The ECN codepoint (RFC 3168 section 5), two bits.
    pub ecn: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}
