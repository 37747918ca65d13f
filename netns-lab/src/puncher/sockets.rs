//! What the driver asks of the sockets of either ground.

use std::net::SocketAddr;

use p2pconnect_punch::{ConnectFailure, Opened};

/// The TCP of one host. No call waits.
pub(super) trait Sockets {
    /// Names a socket until it is aborted.
    type Socket: Copy + Ord;

    /// Begins to connect from a port that several sockets share.
    fn connect(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Self::Socket, ConnectFailure>;

    /// Listens on a port that is connected from too. If that cannot be, what
    /// comes there is refused.
    fn listen(&mut self, local: SocketAddr);

    /// Takes the sockets that something may have happened to since the last
    /// call; perhaps some that have been given up since.
    fn take_changed(&mut self) -> Vec<Self::Socket>;

    /// Tells how far an attempt to connect has come.
    fn progress(&mut self, socket: Self::Socket) -> Progress;

    /// Returns the next connection that came to a listener, with its local and
    /// remote end.
    fn accept(&mut self) -> Option<(Self::Socket, SocketAddr, SocketAddr)>;

    /// Sends some bytes; false if the connection has gone.
    fn send(&mut self, socket: Self::Socket, bytes: &[u8]) -> bool;

    /// Receives what has come.
    fn receive(&mut self, socket: Self::Socket, buffer: &mut [u8]) -> Received;

    /// Gives up a socket with a reset.
    fn abort(&mut self, socket: Self::Socket);
}

/// How far an attempt to connect has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// No answer so far.
    Connecting,
    /// It is a connection.
    Open(Opened),
    /// It will not be one.
    Failed(ConnectFailure),
}

/// What a connection had to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// Nothing so far.
    Nothing,
    /// So many bytes, at least one.
    Bytes(usize),
    /// The connection has ended.
    Closed,
}
