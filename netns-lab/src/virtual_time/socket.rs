//! The words for sockets and what becomes of them.

use std::net::{IpAddr, SocketAddr};

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
    /// The host does not have the local address, the two ends are not of one
    /// family, or a connection between just these ends exists (`EADDRNOTAVAIL`).
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
