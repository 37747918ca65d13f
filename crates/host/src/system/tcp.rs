//! TCP sockets of the operating system.
//!
//! Hole punching over TCP needs several sockets on one local address and port: the connection to
//! the STUN server, the connections to the peer and a listener. Linux allows that only if *every*
//! one of them has `SO_REUSEADDR` and `SO_REUSEPORT` set before it is bound.

use std::{
    collections::BTreeSet,
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::ReadBuf;

use super::{syn_filter, tcp_info};
use crate::{
    Connecting, KeepAlive, Sharing, TcpAcceptor, TcpConnection, TcpInfo, TcpListener, TcpSocket,
    TcpStream, UnconnectedTcp,
};

/// Returns a socket bound to `local`.
///
/// All have `TCP_NODELAY`, so that the small messages of a handshake are not held back. IPv6
/// sockets are IPv6 only. Shared ones have `SO_LINGER` 0: closing sends RST and leaves no
/// TIME_WAIT, which would keep the next attempt from using the same pair of addresses. Accepted
/// connections inherit both from their listener.
pub(super) fn bound_socket(local: SocketAddr, sharing: Sharing) -> io::Result<TcpSocket> {
    let socket = Socket::new(
        Domain::for_address(local),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    match sharing {
        Sharing::Shared => {
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.set_linger(Some(Duration::ZERO))?;
        }
        // The system is to choose a port that nobody has, not even a shared socket.
        Sharing::Exclusive if local.port() == 0 => {}
        // Connections of the one before that are in TIME-WAIT are no hindrance.
        Sharing::Exclusive => socket.set_reuse_address(true)?,
    }
    socket.bind(&local.into())?;
    Ok(unconnected(socket))
}

/// Returns a socket that is bound already, and perhaps listens.
pub(super) fn inherited_socket(socket: Socket) -> io::Result<TcpSocket> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    Ok(unconnected(socket))
}

fn unconnected(socket: Socket) -> TcpSocket {
    let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
    TcpSocket::new(Unconnected(socket))
}

/// Tells whether the machine itself does not let this process connect (EPERM). The other code of
/// the same kind, EACCES, may stand for ICMP.
#[must_use]
pub fn is_not_permitted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

#[derive(Debug)]
struct Unconnected(tokio::net::TcpSocket);

impl UnconnectedTcp for Unconnected {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn limit_segment(&self, bytes: u16) -> io::Result<()> {
        SockRef::from(&self.0).set_tcp_mss(bytes.into())
    }

    fn limit_window(&self, bytes: u32) -> io::Result<()> {
        tcp_info::limit_window(&self.0, bytes)
    }

    #[cfg(target_os = "linux")]
    fn leave_by(&self, interface: &str) -> io::Result<()> {
        SockRef::from(&self.0).bind_device(Some(interface.as_bytes()))
    }

    #[cfg(not(target_os = "linux"))]
    fn leave_by(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn keep_alive(&self, keep_alive: KeepAlive) -> io::Result<()> {
        set_keep_alive(SockRef::from(&self.0), keep_alive)
    }

    fn limit_buffers(&self, bytes: u32) -> io::Result<()> {
        self.0.set_recv_buffer_size(bytes)?;
        self.0.set_send_buffer_size(bytes)
    }

    fn connect(self: Box<Self>, remote: SocketAddr) -> Pin<Box<dyn Connecting>> {
        Box::pin(Attempt {
            handle: tcp_info::Handle::of(&self.0),
            connecting: Box::pin(self.0.connect(remote)),
        })
    }

    fn listen(self: Box<Self>, backlog: u32) -> io::Result<TcpListener> {
        // Connections inherit it, and are in TIME-WAIT no hindrance to the next listener on the
        // port.
        self.0.set_reuseaddr(true)?;
        Ok(TcpListener::new(Acceptor {
            listener: self.0.listen(backlog)?,
            has_filtered: AtomicBool::new(false),
        }))
    }
}

fn set_keep_alive(socket: SockRef<'_>, keep_alive: KeepAlive) -> io::Result<()> {
    let KeepAlive {
        idle,
        interval,
        questions,
    } = keep_alive;
    let keepalive = TcpKeepalive::new()
        .with_time(idle)
        .with_interval(interval)
        .with_retries(questions);
    socket.set_tcp_keepalive(&keepalive)
}

/// A connection being made.
struct Attempt {
    /// Of the socket that is in the future.
    handle: tcp_info::Handle,
    connecting: Pin<Box<dyn Future<Output = io::Result<tokio::net::TcpStream>> + Send>>,
}

impl Future for Attempt {
    type Output = io::Result<TcpStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.connecting.as_mut().poll(cx).map_ok(TcpStream::from)
    }
}

impl Connecting for Attempt {
    fn is_met(&self) -> bool {
        self.handle.is_met()
    }
}

#[derive(Debug)]
struct Acceptor {
    listener: tokio::net::TcpListener,
    /// Whether connections may have inherited a filter.
    has_filtered: AtomicBool,
}

impl TcpAcceptor for Acceptor {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let (stream, remote) = ready!(self.listener.poll_accept(cx))?;
        if self.has_filtered.load(Ordering::Relaxed)
            && let Err(error) = syn_filter::detach(SockRef::from(&stream))
        {
            tracing::debug!(%error, "an accepted connection keeps its listener's filter");
        }
        Poll::Ready(Ok((stream.into(), remote)))
    }

    fn ignore(&self, from: &BTreeSet<SocketAddr>) -> io::Result<()> {
        if !from.is_empty() {
            self.has_filtered.store(true, Ordering::Relaxed);
            return syn_filter::attach(&self.listener, from);
        }
        if self.has_filtered.load(Ordering::Relaxed) {
            syn_filter::detach(SockRef::from(&self.listener))?;
        }
        Ok(())
    }
}

impl TcpConnection for tokio::net::TcpStream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Self::peer_addr(self)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(drop)),
            }
        }
    }

    fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_peek(self, cx, buf).map_ok(drop)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }

    fn send_at_once(&self) -> io::Result<()> {
        self.set_nodelay(true)
    }

    fn reset_on_close(&self, is_reset: bool) -> io::Result<()> {
        SockRef::from(self).set_linger(is_reset.then_some(Duration::ZERO))
    }

    fn keep_alive(&self, keep_alive: KeepAlive) -> io::Result<()> {
        set_keep_alive(SockRef::from(self), keep_alive)
    }

    #[cfg(target_os = "linux")]
    fn give_up_after(&self, limit: Duration) -> io::Result<()> {
        SockRef::from(self).set_tcp_user_timeout(Some(limit))
    }

    fn info(&self) -> TcpInfo {
        tcp_info::of(self)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::Host;

    fn loopback() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    /// Returns both ends of a connection, the one of a shared socket first.
    async fn connection() -> (TcpStream, TcpStream) {
        let host = Host::default();
        let server = host.tcp_socket(loopback(), Sharing::Exclusive).unwrap();
        let server = server.listen(8).unwrap();
        let client = host.tcp_socket(loopback(), Sharing::Shared).unwrap();
        let client = client.connect(server.local_addr().unwrap()).await.unwrap();
        (client, server.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_listener_and_two_connections_share_one_port() {
        let host = Host::default();
        let server = || tokio::net::TcpListener::bind(loopback());
        let servers = [server().await.unwrap(), server().await.unwrap()];
        let listener = host.shared_listener(loopback(), 8).unwrap();
        let shared = listener.local_addr().unwrap();
        for server in &servers {
            let socket = host.tcp_socket(shared, Sharing::Shared).unwrap();
            let stream = socket.connect(server.local_addr().unwrap()).await.unwrap();
            assert_eq!(stream.local_addr().unwrap(), shared);
            assert_eq!(server.accept().await.unwrap().1, shared);
        }
        let inbound = tokio::net::TcpStream::connect(shared).await.unwrap();
        let (_accepted, from) = listener.accept().await.unwrap();
        assert_eq!(from, inbound.local_addr().unwrap());
    }

    #[tokio::test]
    async fn accepted_connections_are_as_their_listener() {
        let shared = bound_socket(loopback(), Sharing::Shared).unwrap();
        let listener = shared.listen(8).unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        drop(accepted);
        let error = client.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_port_can_be_listened_on_again_whoever_has_chosen_it() {
        let host = Host::default();
        let listen = |address| {
            let socket = host.tcp_socket(address, Sharing::Exclusive);
            socket.and_then(|it| it.listen(8))
        };
        // An address that no other test has.
        let listener = listen(([127, 0, 0, 8], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::net::TcpStream::connect(address).await.unwrap();
        // The server ends the connection, and so has its TIME-WAIT.
        drop(listener.accept().await.unwrap());
        drop((client, listener));
        listen(address).unwrap();
    }

    #[tokio::test]
    async fn closing_resets_until_data_is_to_be_delivered() {
        let (client, mut server) = connection().await;
        drop(client);
        let error = server.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let (client, mut server) = connection().await;
        client.deliver_on_close().unwrap();
        drop(client);
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_connection_is_the_same_in_halves_and_whole_again() {
        let (client, mut server) = connection().await;
        let (mut read, mut write) = client.into_split();
        write.write_all(b"there").await.unwrap();
        let mut bytes = [0; 5];
        server.read_exact(&mut bytes).await.unwrap();
        server.write_all(&bytes).await.unwrap();
        assert_eq!(read.as_ref().peek(&mut [0; 2]).await.unwrap(), 2);
        read.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"there");
        let mut client = read.reunite(write).unwrap();
        client.write_all(b"and back").await.unwrap();
        client.deliver_on_close().unwrap();
        let (_read, write) = client.into_split();
        // FIN goes out although the other half is still there.
        drop(write);
        let mut rest = String::new();
        server.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "and back");
    }

    #[tokio::test]
    async fn halves_of_two_connections_are_not_put_together() {
        let (one, _server) = connection().await;
        let (other, _other_server) = connection().await;
        let ((read, _write), (_read, write)) = (one.into_split(), other.into_split());
        assert!(!write.is_other_half_of(&read));
        assert!(read.reunite(write).is_err());
    }

    #[tokio::test]
    async fn an_active_open_has_not_crossed() {
        let (client, server) = connection().await;
        let info = client.info();
        assert!(!info.has_crossed && !info.has_lost_its_scale && !info.is_closed);
        assert!(info.largest_segment > 1000);
        assert_eq!(info.outstanding, Some(0));
        // The handshake is measured on both sides.
        for side in [&client, &server] {
            let round_trip = side.info().round_trip;
            assert!(
                round_trip.is_some_and(|it| it < Duration::from_secs(1)),
                "{round_trip:?}"
            );
            side.give_up_after(Duration::from_secs(1)).unwrap();
        }
        drop(server);
    }

    #[tokio::test]
    async fn an_ipv6_socket_leaves_the_ipv4_port_alone() {
        let any = (Ipv6Addr::UNSPECIFIED, 0).into();
        let v6 = Host::default().shared_listener(any, 8).unwrap();
        let port = v6.local_addr().unwrap().port();
        let address = (Ipv4Addr::LOCALHOST, port);
        let error = tokio::net::TcpStream::connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
