//! TCP sockets that share one local port.
//!
//! Hole punching over TCP needs several sockets on one local address and port: the connection to
//! the STUN server, the connections to the peer and a listener. Linux allows that only if *every*
//! one of them has `SO_REUSEADDR` and `SO_REUSEPORT` set before it is bound.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::shortage;

/// Returns an unconnected socket bound to `local` beside others of its kind.
///
/// It has `TCP_NODELAY`, so that the small messages of a handshake are not held back, and
/// `SO_LINGER` 0: closing sends RST and leaves no TIME_WAIT, which would keep the next attempt
/// from using the same pair of addresses. RST also discards data that is not yet delivered, so
/// call [`clear_linger`] on a connection that is going to carry any. IPv6 sockets are IPv6 only.
///
/// Port 0 lets the system choose a port that no other socket has.
///
/// # Errors
///
/// What the system reports: above all that the port belongs to a socket without the two options
/// (`AddrInUse`) or that the address is not one of this host's (`AddrNotAvailable`).
///
/// # Panics
///
/// Outside a tokio runtime with I/O enabled, when the socket is connected.
pub fn reusable_tcp_socket(local: SocketAddr) -> io::Result<TcpSocket> {
    let socket = bound_socket(local).inspect_err(|error| {
        shortage::note(error);
    })?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// Returns a listener on `local` beside other sockets made by [`reusable_tcp_socket`].
///
/// `backlog` is the most connections that wait for being accepted. On Linux the accepted
/// connections inherit `TCP_NODELAY` and `SO_LINGER` 0 from it.
///
/// # Errors
///
/// As [`reusable_tcp_socket`]; besides `AddrInUse` if an established connection without the two
/// options has the port.
///
/// # Panics
///
/// Outside a tokio runtime with I/O enabled.
pub fn reusable_listener(local: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    reusable_tcp_socket(local)?.listen(backlog)
}

/// Lets `stream` deliver what was written when it is closed, as a connection that carries data
/// must.
///
/// # Errors
///
/// What the system reports; none is expected on an open socket.
pub fn clear_linger(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(None)
}

/// Makes closing `stream` send RST and forget the connection at once.
///
/// # Errors
///
/// What the system reports; none is expected on an open socket.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn bound_socket(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(local),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&local.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::io::AsyncReadExt;

    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    #[tokio::test]
    async fn a_listener_and_two_connections_share_one_port() {
        let first = TcpListener::bind(loopback()).await.unwrap();
        let second = TcpListener::bind(loopback()).await.unwrap();
        let listener = reusable_listener(loopback(), 8).unwrap();
        let shared = listener.local_addr().unwrap();

        for server in [&first, &second] {
            let stream = reusable_tcp_socket(shared)
                .unwrap()
                .connect(server.local_addr().unwrap())
                .await
                .unwrap();
            assert_eq!(stream.local_addr().unwrap(), shared);
            assert!(stream.nodelay().unwrap());
            assert_eq!(server.accept().await.unwrap().1, shared);
        }
        let inbound = TcpStream::connect(shared).await.unwrap();
        let (accepted, from) = listener.accept().await.unwrap();
        assert_eq!(from, inbound.local_addr().unwrap());
        assert_eq!(
            SockRef::from(&accepted).linger().unwrap(),
            Some(Duration::ZERO)
        );
    }

    #[tokio::test]
    async fn closing_resets_until_linger_is_cleared() {
        let server = TcpListener::bind(loopback()).await.unwrap();
        let target = server.local_addr().unwrap();

        let stream = reusable_tcp_socket(loopback())
            .unwrap()
            .connect(target)
            .await
            .unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        drop(stream);
        let error = accepted.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let stream = reusable_tcp_socket(loopback())
            .unwrap()
            .connect(target)
            .await
            .unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        clear_linger(&stream).unwrap();
        drop(stream);
        assert_eq!(accepted.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_ipv6_socket_leaves_the_ipv4_port_alone() {
        let v6 = reusable_listener((Ipv6Addr::UNSPECIFIED, 0).into(), 8).unwrap();
        let port = v6.local_addr().unwrap().port();
        assert!(SockRef::from(&v6).only_v6().unwrap());
        assert_eq!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .unwrap_err()
                .kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
