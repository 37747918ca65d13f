//! What a host has to do for the programs on it.

use std::{
    fmt::Debug,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Instant,
};

use quinn::AsyncUdpSocket;

use crate::{Interface, Sharing, TcpSocket};

/// A future that a platform returns.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a host does for the programs on it: the operating system, or something in its place.
///
/// Programs do not call this but [`Host`](crate::Host), which says more of each method. Whatever
/// stands in the place of the operating system has to do what Linux does: the same socket may be
/// had where Linux gives it, and an error has the [`io::ErrorKind`] that Linux' error has. Programs
/// decide by these kinds: `AddrInUse` for a port that is taken, `AddrNotAvailable` for an address
/// that the host does not have, `NetworkUnreachable` where there is no route, `ConnectionRefused`,
/// `ConnectionReset`, `HostUnreachable` and `TimedOut` for connections.
pub trait Platform: Debug + Send + Sync {
    /// Returns a UDP socket bound to `local`, with room for so many bytes that nobody has read yet
    /// where that is given. At the unspecified address of IPv6 it serves IPv4 as well. It must be
    /// called within a tokio runtime.
    fn udp_socket(
        &self,
        local: SocketAddr,
        receive_buffer: Option<usize>,
    ) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Returns a TCP socket bound to `local` that neither listens nor is connected. One of IPv6
    /// does not serve IPv4. Closing a shared one, or a connection that has come of it, sends RST.
    fn tcp_socket(&self, local: SocketAddr, sharing: Sharing) -> io::Result<TcpSocket>;

    /// Lists the addresses of the host's interfaces.
    fn interfaces(&self) -> io::Result<Vec<Interface>>;

    /// Returns the address that packets to `remote` leave from, or an error where there is no
    /// route. It is asked often, so it must neither wait nor send anything.
    fn source_address(&self, remote: SocketAddr) -> io::Result<IpAddr>;

    /// Returns the default gateway of IPv4, if there is one.
    fn gateway(&self) -> io::Result<Option<Ipv4Addr>>;

    /// Tells whether packets to an address stay on the host.
    fn stays_here(&self, ip: IpAddr) -> io::Result<bool>;

    /// Looks a host name up. How long that may take is bounded by whoever asks.
    fn look_up(&self, name: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>>;

    /// Waits until no other program of this user on the host holds a name, and holds it until the
    /// guard is dropped.
    fn hold_name(&self, name: String) -> BoxFuture<io::Result<HeldName>>;

    /// Fills the bytes with random ones.
    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()>;

    /// Returns the seconds since 1970, as the host's clock has them.
    fn unix_time(&self) -> u64;

    /// Returns a moment of this host's past from which its programs count what they do at
    /// intervals. Every host should have its own, so that the clients of a server do not all ask at
    /// the same moment.
    fn began(&self) -> Instant;

    /// Returns how many files and sockets the program may have open.
    fn files_allowed(&self) -> u64;

    /// Tells whether the host is the operating system itself. Only there are routers asked to
    /// forward ports, since the library that does so has sockets of its own.
    fn is_system(&self) -> bool {
        false
    }
}

/// A name that no other program holds as long as this exists.
#[derive(Debug)]
pub struct HeldName {
    /// Whether another program held it at first.
    pub has_waited: bool,
    _guard: Box<dyn Debug + Send + Sync>,
}

impl HeldName {
    /// Returns a name that is held as long as the guard.
    pub fn new(has_waited: bool, guard: impl Debug + Send + Sync + 'static) -> Self {
        Self {
            has_waited,
            _guard: Box::new(guard),
        }
    }
}
