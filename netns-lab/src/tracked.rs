//! What a box knows about a connection, whoever does its work.

use std::net::SocketAddr;

/// One connection that a NAT or firewall tracks: an entry of its mapping table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrackedConnection {
    /// Who sent the first packet, as seen on the side it came from.
    pub source: SocketAddr,
    /// Where the first packet went, as seen on the side it came from.
    pub destination: SocketAddr,
    /// What the other side sees `source` as.
    pub mapped: SocketAddr,
    /// Who answers, as seen on the other side; `destination` unless that was rewritten.
    pub peer: SocketAddr,
    /// The state of the TCP connection, as connection tracking names it.
    pub state: TcpState,
    /// Seconds until the entry is forgotten, if no packet comes.
    pub expires_in: u32,
}

/// The state of a tracked TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpState {
    /// A SYN passed.
    SynSent,
    /// SYNs passed in both directions: a simultaneous open.
    SynSent2,
    /// A SYN was answered.
    SynReceived,
    /// The handshake is complete.
    Established,
    /// The connection is being closed.
    Closing,
    /// Another state, by its number.
    Other(u8),
}

impl TcpState {
    /// Reads a number of netfilter's `enum tcp_conntrack`.
    pub(crate) const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::SynSent,
            2 => Self::SynReceived,
            3 => Self::Established,
            4..=8 => Self::Closing,
            9 => Self::SynSent2,
            other => Self::Other(other),
        }
    }
}
