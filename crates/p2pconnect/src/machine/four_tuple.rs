//! The two addresses by which TCP tells a connection from all others.

use std::net::SocketAddr;

/// The 4-tuple of a TCP connection: address and port on this machine, and address and port at the
/// other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FourTuple {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}
