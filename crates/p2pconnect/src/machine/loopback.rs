//! Connections over the loopback, for tests.

#![cfg(test)]
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::net::{Ipv4Addr, SocketAddr};

use p2pconnect_host::{Host, Sharing, TcpListener, TcpStream};

/// The address that stands for any port.
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Returns a listener on a port of its own.
pub(crate) fn listener() -> TcpListener {
    let socket = Host::default().tcp_socket(ANY, Sharing::Exclusive);
    socket.unwrap().listen(64).unwrap()
}

/// Connects from an address, with a port of its own if it names none.
pub(crate) async fn connect_from(local: SocketAddr, to: SocketAddr) -> TcpStream {
    let socket = Host::default().tcp_socket(local, Sharing::Exclusive);
    socket.unwrap().connect(to).await.unwrap()
}

/// Connects from a port of its own.
pub(crate) async fn connect(to: SocketAddr) -> TcpStream {
    connect_from(ANY, to).await
}

/// Returns both ends of a connection.
pub(crate) async fn connection() -> (TcpStream, TcpStream) {
    let listener = listener();
    let one = connect(listener.local_addr().unwrap()).await;
    (one, listener.accept().await.unwrap().0)
}
