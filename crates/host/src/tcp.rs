//! TCP sockets, as programs on the host use them.

mod traits;

use std::{
    collections::BTreeSet,
    error::Error,
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use traits::{Connecting, TcpAcceptor, TcpConnection, UnconnectedTcp};

/// How a TCP socket shares its local address and port with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// With all others that are shared as well, of the same user. On Linux that takes
    /// `SO_REUSEADDR` and `SO_REUSEPORT` on every one of them before it is bound.
    Shared,
    /// With connections that its listener has accepted, and with nobody else.
    Exclusive,
}

/// How an idle TCP connection is asked whether its other side is there (RFC 9293 section 3.8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// For how long the connection is idle before the first question.
    pub idle: Duration,
    /// How long after each question the next one follows.
    pub interval: Duration,
    /// How many questions in a row without an answer end the connection with an error, one interval
    /// after the last.
    pub questions: u32,
}

/// What a host knows of a TCP connection. What a system does not tell is as on a connection without
/// a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Whether SYNs have crossed: tells of an active open which way it left SYN-SENT (RFC 9293
    /// section 3.5).
    pub has_crossed: bool,
    /// Whether SYNs have crossed of which the other side's had no window scale. An active open that
    /// has found none in the SYN-ACK scales nothing, as it should.
    pub has_lost_its_scale: bool,
    /// The shortest round trip that has been measured lately, in which no acknowledgement counts
    /// that the other side has held back (RFC 1122 section 4.2.3.2). Linux remembers it for five
    /// minutes.
    pub round_trip: Option<Duration>,
    /// How many bytes the longest segment holds that is sent; 0 if that is unknown.
    pub largest_segment: u16,
    /// For how long the other side has acknowledged nothing, if something that it was sent had to
    /// be repeated, or it was asked whether it takes more; `None` where nothing is under way, or it
    /// has said that it takes no more for now.
    pub unanswered_for: Option<Duration>,
    /// How many bytes the other side has not acknowledged, FIN being one, where that is known.
    pub outstanding: Option<u32>,
    /// Whether something has come behind what was missing then.
    pub has_come_out_of_order: bool,
    /// Whether the connection is over, by RST or by FIN both ways.
    pub is_closed: bool,
}

/// A TCP socket that is bound, and neither listens nor is connected.
#[derive(Debug)]
pub struct TcpSocket(Box<dyn UnconnectedTcp>);

impl TcpSocket {
    /// Wraps a socket of a platform.
    pub fn new(socket: impl UnconnectedTcp + 'static) -> Self {
        Self(Box::new(socket))
    }

    /// Returns the address that it is bound to.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Bounds the segments that this side sends, and that it tells the other side to send, in
    /// bytes.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    pub fn limit_segment(&self, bytes: u16) -> io::Result<()> {
        self.0.limit_segment(bytes)
    }

    /// Bounds the window that is ever offered, in bytes. One that fits into 16 bits is offered
    /// without a scale (RFC 7323 section 2).
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    pub fn limit_window(&self, bytes: u32) -> io::Result<()> {
        self.0.limit_window(bytes)
    }

    /// Has all packets of the socket leave by an interface, whatever the routes say.
    ///
    /// # Errors
    ///
    /// What the system reports, above all that there is no such interface;
    /// [`io::ErrorKind::Unsupported`] where that cannot be asked for.
    pub fn leave_by(&self, interface: &str) -> io::Result<()> {
        self.0.leave_by(interface)
    }

    /// Has the connection, or those that a listener accepts, asked while they are idle whether the
    /// other side is there.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    pub fn keep_alive(&self, keep_alive: KeepAlive) -> io::Result<()> {
        self.0.keep_alive(keep_alive)
    }

    /// Bounds what is kept of what comes over the connection, or those that a listener accepts, and
    /// has not been read, and of what is sent there, in bytes.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    pub fn limit_buffers(&self, bytes: u32) -> io::Result<()> {
        self.0.limit_buffers(bytes)
    }

    /// Begins to connect. A SYN is sent when the future is polled for the first time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket, which ends the attempt.
    #[must_use = "a future does nothing unless it is polled"]
    pub fn connect(self, remote: SocketAddr) -> Pin<Box<dyn Connecting>> {
        self.0.connect(remote)
    }

    /// Begins to listen. `backlog` is the most connections that wait for being accepted.
    ///
    /// # Errors
    ///
    /// What the system reports, above all that another socket has the port (`AddrInUse`).
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.0.listen(backlog)
    }
}

/// A TCP listener.
#[derive(Debug)]
pub struct TcpListener(Box<dyn TcpAcceptor>);

impl TcpListener {
    /// Wraps a listener of a platform.
    pub fn new(listener: impl TcpAcceptor + 'static) -> Self {
        Self(Box::new(listener))
    }

    /// Returns the address that it listens on.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Waits for the next connection, and returns it with the other side's address.
    ///
    /// # Errors
    ///
    /// What the system reports of one connection (accept(2) names these), or a shortage.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| self.0.poll_accept(cx)).await
    }

    /// Answers no SYN from these addresses from now on, in place of those of the last call.
    ///
    /// If there are too many for the system, some are answered. Addresses of IPv6 are: nobody
    /// guesses ports there.
    pub fn ignore(&self, from: &BTreeSet<SocketAddr>) {
        if let Err(error) = self.0.ignore(from) {
            tracing::debug!(%error, "a listener answers SYNs that it was to ignore");
        }
    }
}

/// A TCP connection.
#[derive(Debug)]
pub struct TcpStream(Repr);

#[derive(Debug)]
enum Repr {
    /// One of the operating system that is not split, on which tokio saves some calls.
    Whole(tokio::net::TcpStream),
    Split(Arc<tokio::net::TcpStream>),
    Platform(Arc<dyn TcpConnection>),
}

impl From<tokio::net::TcpStream> for TcpStream {
    fn from(stream: tokio::net::TcpStream) -> Self {
        Self(Repr::Whole(stream))
    }
}

impl TcpStream {
    /// Wraps a connection of a platform.
    pub fn new(connection: impl TcpConnection + 'static) -> Self {
        Self(Repr::Platform(Arc::new(connection)))
    }

    fn connection(&self) -> &dyn TcpConnection {
        match &self.0 {
            Repr::Whole(stream) => stream,
            Repr::Split(stream) => &**stream,
            Repr::Platform(connection) => &**connection,
        }
    }

    /// Returns this side's address.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.connection().local_addr()
    }

    /// Returns the other side's address.
    ///
    /// # Errors
    ///
    /// What the system reports, above all that the connection is over.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.connection().peer_addr()
    }

    /// Reads some bytes, which nobody else may do at that time; none at the end.
    pub fn poll_read_shared(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.connection().poll_read(cx, buf)
    }

    /// Waits for the first bytes and leaves them there. Returns how many there are; 0 if the stream
    /// ends before.
    ///
    /// # Errors
    ///
    /// What the system reports of the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(bytes);
        poll_fn(|cx| self.connection().poll_peek(cx, &mut buf)).await?;
        Ok(buf.filled().len())
    }

    /// Sends FIN behind what has been written.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotConnected`] if the connection is broken.
    pub fn shutdown_now(&self) -> io::Result<()> {
        self.connection().shutdown()
    }

    /// Has small messages sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected on an open socket.
    pub fn send_at_once(&self) -> io::Result<()> {
        self.connection().send_at_once()
    }

    /// Makes closing send RST and forget the connection at once.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected on an open socket.
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.connection().reset_on_close(true)
    }

    /// Lets the connection deliver what was written when it is closed, as one that carries data
    /// must.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected on an open socket.
    pub fn deliver_on_close(&self) -> io::Result<()> {
        self.connection().reset_on_close(false)
    }

    /// Asks on an idle connection whether the other side is there.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected on an open socket.
    pub fn keep_alive(&self, keep_alive: KeepAlive) -> io::Result<()> {
        self.connection().keep_alive(keep_alive)
    }

    /// Gives the connection up when something that it has sent is not acknowledged for so long, or
    /// the other side takes no more for so long (RFC 9293 section 3.8.3).
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected on an open socket.
    pub fn give_up_after(&self, limit: Duration) -> io::Result<()> {
        self.connection().give_up_after(limit)
    }

    /// Returns what is known of the connection.
    #[must_use]
    pub fn info(&self) -> TcpInfo {
        self.connection().info()
    }

    /// Splits the connection into halves that two tasks can own. Dropping the writing half sends
    /// FIN.
    #[must_use]
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (read, write) = match self.0 {
            Repr::Whole(stream) => {
                let stream = Arc::new(stream);
                (Repr::Split(Arc::clone(&stream)), Repr::Split(stream))
            }
            Repr::Split(stream) => (Repr::Split(Arc::clone(&stream)), Repr::Split(stream)),
            Repr::Platform(stream) => (Repr::Platform(Arc::clone(&stream)), Repr::Platform(stream)),
        };
        let write = WriteHalf {
            stream: Self(write),
            is_over: false,
        };
        (ReadHalf(Self(read)), write)
    }

    /// Tells whether two halves, or streams, are of the same connection.
    fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.connection(), other.connection())
    }
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct ReadHalf(TcpStream);

/// The writing half of a connection. Dropping it sends FIN.
#[derive(Debug)]
pub struct WriteHalf {
    stream: TcpStream,
    /// Whether FIN has been sent, or is not to be sent by dropping.
    is_over: bool,
}

/// The halves are of different connections.
#[derive(Debug)]
pub struct ReuniteError(());

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are of different connections")
    }
}

impl Error for ReuniteError {}

impl ReadHalf {
    /// Puts the connection together again.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`] if the halves are of different connections, which are closed then.
    pub fn reunite(self, mut write: WriteHalf) -> Result<TcpStream, ReuniteError> {
        if !write.is_other_half_of(&self) {
            return Err(ReuniteError(()));
        }
        write.is_over = true;
        drop(write);
        Ok(TcpStream(match self.0.0 {
            Repr::Split(stream) => match Arc::try_unwrap(stream) {
                Ok(stream) => Repr::Whole(stream),
                Err(stream) => Repr::Split(stream),
            },
            whole @ (Repr::Whole(_) | Repr::Platform(_)) => whole,
        }))
    }
}

impl WriteHalf {
    /// Tells whether both halves are of the same connection.
    #[must_use]
    pub fn is_other_half_of(&self, read: &ReadHalf) -> bool {
        self.stream.is_same(&read.0)
    }

    /// Writes as many of the bytes as the connection takes at once, and returns how many these are.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if the connection takes none now; what the system reports of a
    /// connection that is broken.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.stream.0 {
            // Not by polling, for which tokio may put a task off that has done much.
            Repr::Whole(stream) => stream.try_write(bytes),
            Repr::Split(stream) => stream.try_write(bytes),
            Repr::Platform(connection) => {
                let mut nobody = Context::from_waker(Waker::noop());
                match connection.poll_write(&mut nobody, &[IoSlice::new(bytes)]) {
                    Poll::Ready(written) => written,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
        }
    }

    /// Drops the half without sending FIN.
    pub fn forget(mut self) {
        self.is_over = true;
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        if !self.is_over {
            // It fails on a connection that is broken, which needs no end.
            drop(self.stream.shutdown_now());
        }
    }
}

impl AsRef<TcpStream> for ReadHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.0
    }
}

impl AsRef<TcpStream> for WriteHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Repr::Whole(stream) => Pin::new(stream).poll_read(cx, buf),
            Repr::Split(_) | Repr::Platform(_) => self.connection().poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Repr::Whole(stream) => Pin::new(stream).poll_write(cx, bytes),
            Repr::Split(_) | Repr::Platform(_) => {
                self.connection().poll_write(cx, &[IoSlice::new(bytes)])
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Repr::Whole(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Repr::Split(_) | Repr::Platform(_) => self.connection().poll_write(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TCP sends by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_now())
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_over = true;
        Poll::Ready(self.stream.shutdown_now())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
