//! What a platform does for its TCP sockets.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::ReadBuf;

use super::{KeepAlive, TcpInfo, TcpListener, TcpStream};

/// A TCP socket that is bound, and neither listens nor is connected.
pub trait UnconnectedTcp: Debug + Send + Sync {
    /// Returns the address that it is bound to.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Bounds the segments that this side sends, and that it tells the other side to send, in
    /// bytes.
    fn limit_segment(&self, bytes: u16) -> io::Result<()>;

    /// Bounds the window that is ever offered, in bytes. One that fits into 16 bits is offered
    /// without a scale (RFC 7323 section 2).
    fn limit_window(&self, bytes: u32) -> io::Result<()>;

    /// Has all packets leave by an interface, whatever the routes say.
    fn leave_by(&self, interface: &str) -> io::Result<()>;

    /// Has the connection, or those that a listener accepts, asked while they are idle whether the
    /// other side is there.
    fn keep_alive(&self, keep_alive: KeepAlive) -> io::Result<()>;

    /// Bounds what is kept of what comes over the connection, or those that a listener accepts, and
    /// has not been read, and of what is sent there, in bytes. A platform that keeps little anyway
    /// need not do anything.
    fn limit_buffers(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    /// Begins to connect. A SYN is sent when the future is polled for the first time.
    fn connect(self: Box<Self>, remote: SocketAddr) -> Pin<Box<dyn Connecting>>;

    /// Begins to listen. So many connections may wait to be accepted.
    fn listen(self: Box<Self>, backlog: u32) -> io::Result<TcpListener>;
}

/// A TCP connection being made. Dropping it closes the socket, which ends the attempt.
pub trait Connecting: Future<Output = io::Result<TcpStream>> + Send {
    /// Tells whether a SYN has come in answer to this side's or across it, where the host tells.
    fn is_met(&self) -> bool;
}

/// A TCP listener.
pub trait TcpAcceptor: Debug + Send + Sync {
    /// Returns the address that it listens on.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Waits for the next connection, which comes with the other side's address.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>>;

    /// Answers no SYN from these addresses from now on, in place of those of the last call.
    fn ignore(&self, from: &BTreeSet<SocketAddr>) -> io::Result<()>;
}

/// A TCP connection. One task may read and one may write at a time. Dropping it closes it, by FIN
/// or as [`reset_on_close`](Self::reset_on_close) says.
pub trait TcpConnection: Debug + Send + Sync {
    /// Returns this side's address.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Returns the other side's address.
    fn peer_addr(&self) -> io::Result<SocketAddr>;

    /// Reads some bytes; none at the end.
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Sees what is to be read next, and leaves it there.
    fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Takes bytes to be sent.
    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Sends FIN behind what has been written.
    fn shutdown(&self) -> io::Result<()>;

    /// Has small messages sent at once (`TCP_NODELAY`).
    fn send_at_once(&self) -> io::Result<()>;

    /// Has closing send RST and forget the connection at once, or end it gracefully.
    fn reset_on_close(&self, is_reset: bool) -> io::Result<()>;

    /// Asks on an idle connection whether the other side is there.
    fn keep_alive(&self, keep_alive: KeepAlive) -> io::Result<()>;

    /// Gives the connection up when something that it has sent is not acknowledged for so long, or
    /// the other side takes no more for so long. A platform without such a limit gives up when it
    /// has repeated that often enough.
    fn give_up_after(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    /// Returns what is known of the connection.
    fn info(&self) -> TcpInfo;
}
