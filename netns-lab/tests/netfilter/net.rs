//! Sockets with chosen local ports, and what peers see of them.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use netns_lab::Host;
use socket2::{Domain, Socket, Type};

/// Longer than any round trip in these tests, shorter than the kernel's first
/// retransmission of a SYN after one second.
pub(crate) const PATIENCE: Duration = Duration::from_millis(800);

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Connects from a port that other sockets may use too.
pub(crate) fn connect(host: &Host, port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    let connect = || {
        let socket = shared_socket(host, port, to.is_ipv6())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(socket.into())
    };
    host.run(connect).map_err(io::Error::other)?
}

/// Listens on a port that other sockets may use too.
pub(crate) fn listen(host: &Host, port: u16, ipv6: bool) -> TcpListener {
    host.run(|| {
        let socket = shared_socket(host, port, ipv6).unwrap();
        socket.listen(16).unwrap();
        socket.into()
    })
    .unwrap()
}

/// Connects to a listener and returns both ends and the address that it sees.
pub(crate) fn connect_and_accept(
    host: &Host,
    port: u16,
    listener: &TcpListener,
) -> (TcpStream, TcpStream, SocketAddr) {
    let client = connect(host, port, listener.local_addr().unwrap()).unwrap();
    let (server, seen) = listener.accept().unwrap();
    (client, server, seen)
}

fn shared_socket(host: &Host, port: u16, ipv6: bool) -> io::Result<Socket> {
    let (domain, address): (_, IpAddr) = if ipv6 {
        (Domain::IPV6, host.ipv6().into())
    } else {
        (Domain::IPV4, host.ipv4().into())
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::new(address, port).into())?;
    Ok(socket)
}
