//! The host, as programs on it use it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_proto::unmapped;
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use tokio::time::timeout;

use crate::{
    HeldName, InheritedSockets, Interface, Platform, Sharing, TcpListener, TcpSocket, UdpSocket,
    shortage,
    system::System,
    udp::{QuicSocket, unspecified},
};

/// Addresses for documentation (RFC 5737, RFC 3849), which no network has: the routes to them are
/// those to everybody elsewhere, of IPv4 and of IPv6. Nothing is sent there. The port is that of
/// the discard service (RFC 863), since a route is asked for with some port.
pub const ELSEWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        9,
    ),
];

/// How long a look-up may take. A resolver gives each name server 5 s before it asks the next
/// (resolv.conf(5)), so two may be dead.
pub const LOOKUP_LIMIT: Duration = Duration::from_secs(15);

/// The host that a program runs on. Clones are the same host.
#[derive(Debug, Clone)]
pub struct Host(Arc<dyn Platform>);

impl Default for Host {
    /// Returns the operating system.
    fn default() -> Self {
        Self::new(System::default())
    }
}

impl Host {
    /// Returns a host that is this platform.
    pub fn new(platform: impl Platform + 'static) -> Self {
        Self(Arc::new(platform))
    }

    /// Returns the operating system, with sockets that the process was started with: whoever asks
    /// for a socket at the address of one of them gets that one.
    #[must_use]
    pub fn with_sockets(inherited: InheritedSockets) -> Self {
        Self::new(System::with_sockets(inherited))
    }

    /// Tells whether the host is the operating system itself, on which programs may also use what
    /// no platform offers.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.0.is_system()
    }

    /// Returns a UDP socket bound to `local`. Port 0 lets the system choose a free port.
    /// `receive_buffer` is how many bytes it has room for that nobody has read yet; by default the
    /// system decides.
    ///
    /// # Errors
    ///
    /// What the system reports, above all that a port is in use (`AddrInUse`) or not allowed. A
    /// shortage is noted.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn udp_socket(
        &self,
        local: SocketAddr,
        receive_buffer: Option<usize>,
    ) -> io::Result<UdpSocket> {
        noting(self.0.udp_socket(local, receive_buffer)).map(UdpSocket)
    }

    /// Returns a UDP socket for reaching a server, bound to a free port of all addresses of the
    /// server's family.
    ///
    /// # Errors
    ///
    /// As [`udp_socket`](Self::udp_socket).
    ///
    /// # Panics
    ///
    /// As [`udp_socket`](Self::udp_socket).
    pub fn udp_socket_towards(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        self.udp_socket(unspecified(server), None)
    }

    /// Returns a QUIC endpoint on a UDP socket of this host, whose packets have no ECN mark. One
    /// that serves sends in handshakes three times what has come at most to an address that may be
    /// forged.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn quic_endpoint(
        &self,
        socket: UdpSocket,
        mut config: EndpointConfig,
        server: Option<ServerConfig>,
    ) -> io::Result<Endpoint> {
        // On the system, QUIC has a generator of its own.
        if !self.is_system() {
            config.rng_seed(Some(self.random_seed()));
        }
        let socket = Arc::new(QuicSocket::new(socket, server.is_some()));
        Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
    }

    /// Returns a TCP socket bound to `local`, which neither listens nor is connected.
    ///
    /// It has `TCP_NODELAY`, so that the small messages of a handshake are not held back. Port 0
    /// lets the system choose a port that no other socket has. IPv6 sockets are IPv6 only. Closing
    /// a [shared](Sharing::Shared) one, or a connection that has come of it, sends RST and leaves
    /// no TIME-WAIT, which would keep the next attempt from using the same pair of addresses. RST
    /// also discards data that is not yet delivered, so call
    /// [`TcpStream::deliver_on_close`](crate::TcpStream::deliver_on_close) on a connection that is
    /// going to carry any.
    ///
    /// # Errors
    ///
    /// What the system reports: above all that the port belongs to a socket that does not share it
    /// (`AddrInUse`) or that the address is not one of this host's (`AddrNotAvailable`). A shortage
    /// is noted.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled, when the socket is connected.
    pub fn tcp_socket(&self, local: SocketAddr, sharing: Sharing) -> io::Result<TcpSocket> {
        noting(self.0.tcp_socket(local, sharing))
    }

    /// Returns a TCP socket for reaching a server, bound to a free port of all addresses of the
    /// server's family.
    ///
    /// # Errors
    ///
    /// As [`tcp_socket`](Self::tcp_socket).
    ///
    /// # Panics
    ///
    /// As [`tcp_socket`](Self::tcp_socket).
    pub fn tcp_socket_towards(&self, server: SocketAddr) -> io::Result<TcpSocket> {
        self.tcp_socket(unspecified(server), Sharing::Exclusive)
    }

    /// Returns a listener on `local` beside other shared sockets. So many connections may wait to
    /// be accepted.
    ///
    /// # Errors
    ///
    /// As [`tcp_socket`](Self::tcp_socket); besides `AddrInUse` if an established connection that
    /// does not share it has the port.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn shared_listener(&self, local: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
        self.tcp_socket(local, Sharing::Shared)?.listen(backlog)
    }

    /// Lists the addresses of the host's interfaces. Where the system does not tell them, there are
    /// none.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Interface> {
        noting(self.0.interfaces()).unwrap_or_else(|error| {
            tracing::warn!(%error, "this machine's addresses cannot be listed");
            Vec::new()
        })
    }

    /// Returns the address that the system would send from towards `remote`. Nothing is sent, and
    /// nothing is waited for.
    ///
    /// # Errors
    ///
    /// What the system says where there is no route, or no socket to ask with.
    pub fn source_address(&self, remote: SocketAddr) -> io::Result<IpAddr> {
        noting(self.0.source_address(remote))
    }

    /// Returns the default gateway of IPv4, if there is one and the system tells.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        noting(self.0.gateway()).unwrap_or_else(|error| {
            tracing::debug!(%error, "the system does not tell which router it uses");
            None
        })
    }

    /// Tells whether packets to an address stay on the host, by an interface's address or by a
    /// route.
    #[must_use]
    pub fn stays_here(&self, ip: IpAddr) -> bool {
        noting(self.0.stays_here(ip)).unwrap_or_else(|error| {
            tracing::debug!(%error, "the system does not tell of its routes");
            // A host sends to an address of IPv4 that it has by a route alone from that address.
            let source = self.source_address(SocketAddr::new(ip, 0));
            source.is_ok_and(|source| source == ip)
        })
    }

    /// Returns the addresses of a host, as the system's resolver has them, within a limit.
    ///
    /// # Errors
    ///
    /// What the resolver says, or [`io::ErrorKind::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is safe; the resolver goes on in a thread until it has an answer or
    /// none.
    pub async fn look_up(
        &self,
        name: &str,
        port: u16,
        limit: Duration,
    ) -> io::Result<Vec<SocketAddr>> {
        let silent = |_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                "no name server has answered in time",
            )
        };
        let found = timeout(limit, self.0.look_up(name.to_owned(), port)).await;
        let found = noting(found.map_err(silent)?)?;
        // No socket here has both families.
        Ok(found.into_iter().map(unmapped).collect())
    }

    /// Waits until no other program of this user on the host holds a name, and holds it until the
    /// guard is dropped.
    ///
    /// # Errors
    ///
    /// What the system reports: that somebody else has the name, or that there is nothing to hold
    /// it by.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future holds nothing.
    pub async fn hold_name(&self, name: String) -> io::Result<HeldName> {
        self.0.hold_name(name).await
    }

    /// Fills the bytes with random ones.
    ///
    /// # Errors
    ///
    /// What the system reports where it has no randomness.
    pub fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.fill_random(bytes)
    }

    /// Returns what randomness comes from that has to be repeatable elsewhere. It spreads things in
    /// time and over ports, and protects nothing, so a fixed one is no harm where the system has
    /// none.
    #[must_use]
    pub fn random_seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        if let Err(error) = self.fill_random(&mut seed) {
            tracing::warn!(%error, "no randomness from the system");
        }
        seed
    }

    /// Returns a number from 0 to 1, for spreading things in time.
    #[must_use]
    pub fn random_fraction(&self) -> f64 {
        let [a, b, c, d, ..] = self.random_seed();
        f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
    }

    /// Returns the seconds since 1970, as the host's clock has them.
    #[must_use]
    pub fn unix_time(&self) -> u64 {
        self.0.unix_time()
    }

    /// Returns a moment of this host's past from which its programs count what they do at
    /// intervals.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.0.began()
    }

    /// Returns how many files and sockets the program may have open.
    #[must_use]
    pub fn files_allowed(&self) -> u64 {
        self.0.files_allowed()
    }
}

/// Notes a shortage.
fn noting<T>(result: io::Result<T>) -> io::Result<T> {
    result.inspect_err(|error| {
        shortage::note(error);
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ipv4_address_in_ipv6_is_one_of_ipv4() {
        let host = Host::default();
        let found = host.look_up("::ffff:192.0.2.1", 1, LOOKUP_LIMIT).await;
        assert_eq!(found.unwrap(), [SocketAddr::from(([192, 0, 2, 1], 1))]);
        let found = host.look_up("fe80::1%1", 2, LOOKUP_LIMIT).await.unwrap();
        assert!(matches!(found[..], [SocketAddr::V6(it)] if it.scope_id() == 1));
    }
}
