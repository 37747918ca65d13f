//! The words for ICMP echo and what becomes of it.

use std::net::IpAddr;

/// An ICMP echo request to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ping {
    /// Who is asked.
    pub to: IpAddr,
    /// What tells the pings of one program from those of others.
    pub identifier: u16,
    /// What tells them from each other.
    pub sequence: u16,
    /// Bytes behind the header.
    pub length: u16,
}

/// What came of an echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Pong {
    /// Who says so: whoever was asked, or a router.
    pub from: IpAddr,
    /// The identifier of the request.
    pub identifier: u16,
    /// Its number.
    pub sequence: u16,
    /// What it is.
    pub kind: PongKind,
}

/// An answer to an echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PongKind {
    /// The echo.
    Reply,
    /// An ICMP error.
    Error {
        /// The type of message.
        kind: u8,
        /// The code within the type.
        code: u8,
    },
}
