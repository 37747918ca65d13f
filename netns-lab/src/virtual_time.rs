//! Virtual time: hosts, middleboxes and links in one process, without a kernel.
//!
//! A [`World`] has a clock that jumps from one event to the next, so that a binding which lives two
//! hours expires at once, and thousands of punches run in a second. Its hosts have UDP and a TCP of
//! their own and never wait: programs on them call, let time pass with [`World::run_until`], and
//! look. [`World::take_changed`] says which sockets are worth a look, so that a driver can wake the
//! tasks that wait for them.
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
//! - The seed and the calls decide everything: the [`EventLog`] of a run is the same byte for byte
//!   each time.
//! - Only links lose packets, and only middleboxes and the core drop them.
//!
//! # Like Linux
//!
//! Hosts do what Linux 6.18 does as far as a program or another host can see it:
//!
//! - A segment goes to the connection between just these ends, and a SYN otherwise to the listener
//!   at the address, or to the one at all addresses. A SYN in TIME-WAIT (60 s) begins anew.
//! - SYNs are repeated after 1, 2, 3, 4, 5, 7, 11, 19, 35 and 67 s and given up at 131 s, SYN-ACKs
//!   after 1, 3, 7, 15 and 31 s and given up at 63 s. Data is given up after 15 minutes, or 102 s
//!   once its program has closed the connection.
//! - ICMP errors end attempts and nothing else, and shorten the segments of a connection whose path
//!   carries no longer ones. Of UDP sockets only connected ones hear of them.
//! - `connect` between ends that are in use says so. RST is sent for an aborted connection and not
//!   for an attempt. Crossing SYNs make a connection after one round trip, not one and a half. What
//!   cannot be right is challenged (RFC 5961).
//! - What a host sends to itself passes no link, at its addresses and at those of the
//!   loopback; it takes 10 µs.
//! - A listener's queue takes one connection more than it was told, and SYNs meet silence while it
//!   is full.
//!
//! # Deviations from Linux
//!
//! - There are neither SACK (RFC 2018) nor timestamps (RFC 7323), and congestion control is NewReno
//!   with the end of slow start by delay: several losses in one window take a round trip each.
//! - Every segment with data is acknowledged at once, small segments are never held back, and
//!   buffers have one size, 512 KiB and 256 KiB.
//! - A listener keeps 4,096 half-open connections whatever its queue, and sends no SYN
//!   cookies.
//!
//! # What is deliberately absent
//!
//! - Fragmentation: what a host sends fits into a packet of 1,500 bytes, and a longer
//!   datagram is refused.
//! - Interfaces and routes: a host has one link beside the loopback, and its addresses
//!   have no prefixes.
//! - Sockets for both families: one at `[::]` hears IPv6 alone. Only the listener of
//!   [`World::listen`] hears both.
//! - Broadcast, multicast, and ICMP beside echoes and errors; the errors that hosts send (port
//!   unreachable) have no rate limit.

mod host;
mod ping;
mod socket;
mod tcp;
mod world;

pub use crate::{
    fabric::{BoxId, HostId, Network, Uplink, WorldError},
    middlebox::{Middlebox, Outgoing, Side},
    record::{Event, EventLog, LogEntry, Remark},
};
pub use ping::{Ping, Pong, PongKind};
pub use socket::{
    Accepted, Datagram, Failure, KeepAlive, Opening, SocketError, SocketId, SocketState, TcpInfo,
    TcpOptions, Transmit, addresses_overlap,
};
pub use world::{Change, World};
