//! Which of the addresses of the operating system packets leave from.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use crate::udp::unspecified;

/// Returns the address that the kernel would send from towards `remote`.
///
/// Nothing is sent, and nothing is waited for: connecting a UDP socket only looks up the route.
///
/// # Errors
///
/// What the kernel says where there is no route, or no socket to ask with.
pub(super) fn source_address(remote: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(unspecified(remote))?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}
