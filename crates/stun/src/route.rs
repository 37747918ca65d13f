//! Which of this machine's addresses packets leave from.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use crate::shortage;

/// Addresses for documentation (RFC 5737, RFC 3849), which no network has: the routes to them are those to
/// everybody elsewhere, of IPv4 and of IPv6. Nothing is sent there. The port is that of the discard service
/// (RFC 863), since a route is asked for with some port.
pub const ELSEWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        9,
    ),
];

/// Returns the address that the kernel would send from towards `remote`.
///
/// Nothing is sent, and nothing is waited for: connecting a UDP socket only looks up the route.
///
/// # Errors
///
/// What the kernel says where there is no route, or no socket to ask with.
pub fn source_address(remote: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = if remote.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).inspect_err(|error| {
        shortage::note(error);
    })?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}
