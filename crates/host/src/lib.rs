//! The host that a program runs on: its sockets, its addresses, its names, its randomness and its
//! clock.
//!
//! Peers, coordinators and STUN servers ask for all of that here and nowhere else. A [`Host`] is
//! the operating system, or something in its place that implements [`Platform`], such as a host in
//! virtual time: then the same code runs without a kernel, and from the same seed the same way.
//!
//! Programs call [`Host`] and the sockets that it returns. Who writes another platform implements
//! [`Platform`] and, for TCP, [`UnconnectedTcp`], [`Connecting`], [`TcpAcceptor`] and
//! [`TcpConnection`]; the module `system` shows how.
//!
//! ```
//! # use p2pconnect_host::{Host, Sharing};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let host = Host::default();
//! let any = ([127, 0, 0, 1], 0).into();
//! let listener = host.shared_listener(any, 8)?;
//! // From the port of the listener, as a peer does to punch.
//! let other = host.tcp_socket(any, Sharing::Exclusive)?.listen(8)?;
//! let socket = host.tcp_socket(listener.local_addr()?, Sharing::Shared)?;
//! let stream = socket.connect(other.local_addr()?).await?;
//! assert_eq!(stream.local_addr()?, listener.local_addr()?);
//! # Ok(())
//! # }
//! ```
//!
//! Time is read by [`clock::now`] and waited for by `tokio::time`, so that a paused tokio runtime
//! decides what time it is. All that is special to one operating system is in the module `system`.

pub mod clock;
mod host;
mod interface;
mod platform;
pub mod shortage;
mod system;
mod tcp;
mod udp;

pub use self::{
    host::{ELSEWHERE, Host, LOOKUP_LIMIT},
    interface::Interface,
    platform::{BoxFuture, HeldName, Platform},
    shortage::Shortage,
    system::{file_limit::raise_file_limit, inherited::InheritedSockets, tcp::is_not_permitted},
    tcp::{
        Connecting, KeepAlive, ReadHalf, ReuniteError, Sharing, TcpAcceptor, TcpConnection,
        TcpInfo, TcpListener, TcpSocket, TcpStream, UnconnectedTcp, WriteHalf,
    },
    udp::{Received, UdpSocket},
};
