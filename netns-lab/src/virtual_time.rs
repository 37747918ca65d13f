//! Virtual time: hosts, middleboxes and links in one process, without a kernel.
//!
//! A [`World`] has a clock that jumps from one event to the next, so that a
//! binding which lives two hours expires at once, and thousands of punches run
//! in a second. Its hosts have UDP and a TCP of their own (smoltcp) and never wait:
//! programs on them call, let time pass with [`World::run_until`], and look.
//! [`World::take_changed`] says which sockets are worth a look, so that a driver can
//! wake the tasks that wait for them.
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! use netns_lab::LinkSpec;
//! use netns_lab::virtual_time::{SocketState, Uplink, World};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let link = Uplink::core(LinkSpec::delay(Duration::from_millis(20)));
//! let (local, remote): (SocketAddr, SocketAddr) =
//!     ("203.0.113.1:4000".parse()?, "203.0.113.2:80".parse()?);
//! let mut world = World::new(7);
//! let client = world.add_host("client", &[local.ip()], link)?;
//! let server = world.add_host("server", &[remote.ip()], link)?;
//! world.listen(server, remote.port())?;
//! let socket = world.connect(client, local, remote)?;
//! let limit = Duration::from_secs(1);
//! assert!(world.run_until(limit, |world| {
//!     world.state(socket) == Ok(SocketState::Connected)
//! }));
//! assert_eq!(world.now(), Duration::from_millis(80));
//! # Ok(())
//! # }
//! ```
//!
//! # What always holds
//!
//! - The seed and the calls decide everything: the [`EventLog`] of a run is the
//!   same byte for byte each time.
//! - Only links lose packets, and only middleboxes and the core drop them.
//!
//! # Like Linux
//!
//! Where smoltcp differs from Linux 6.18 in what a punch can see, the host puts
//! it right: a SYN goes to the socket in SYN-SENT between just these ends, and
//! to the listener on the port otherwise; SYNs are repeated after 1, 2, 3, 4,
//! 5, 7, 11, 19, 35 and 67 s and given up at 131 s; ICMP errors end attempts
//! and nothing else; `connect` between ends that are in use says so; RST is
//! sent for an aborted connection and not for an attempt; crossing SYNs make a
//! connection after one round trip, not one and a half.
//!
//! # Deviations from Linux
//!
//! - TIME-WAIT takes 10 s instead of 60, and refuses a new SYN for its ends.
//! - The least retransmission timeout of data is 1 s instead of 200 ms, data is
//!   repeated for ever, every segment is acknowledged at once, and there is no
//!   congestion control; a path in virtual time has no rate to find out.
//! - A SYN-RECEIVED repeats its SYN-ACK by its timer only, not when the SYN
//!   comes again, and an established connection ignores a SYN without ACK
//!   instead of challenging it (RFC 5961 section 4.2).
//! - An established connection takes an RST anywhere in its window (RFC 9293
//!   section 3.10.7.4), not only at its beginning (RFC 5961 section 3.2).
//! - Closing our direction with data under way never times out in FIN-WAIT-2.
//!
//! # What is deliberately absent
//!
//! - Fragmentation and path MTU discovery: what a host sends fits into a packet of
//!   1,500 bytes, a longer datagram is refused, and hosts ignore "packet too big".
//! - Interfaces and routes: a host has one link, its addresses have no prefixes, and
//!   what it sends to itself takes the way over the link like everything else.
//! - Sockets for both families: one at `[::]` hears IPv6 alone. Only the listener of
//!   [`World::listen`] hears both.
//! - Broadcast, multicast, and ICMP beside echoes and errors; the errors that hosts
//!   send (port unreachable) have no rate limit.

mod host;
mod ping;
mod socket;
mod world;

pub use crate::fabric::{BoxId, HostId, Network, Uplink, WorldError};
pub use crate::middlebox::{Middlebox, Outgoing, Side};
pub use crate::record::{Event, EventLog, LogEntry};
pub use ping::{Ping, Pong, PongKind};
pub use socket::{
    Accepted, Datagram, Failure, Opening, SocketError, SocketId, SocketState, Transmit,
};
pub use world::{Change, World};
