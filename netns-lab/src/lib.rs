//! NAT labs made of Linux network namespaces, without root and without ip or nft.
//!
//! A [`Lab`] is a set of hosts, each public or behind a chain of NATs and firewalls ([`NatSpec`]),
//! joined by links with delay, rate, loss and more ([`LinkSpec`]). Real programs and real sockets
//! run on its hosts, and what crosses the links is on record ([`Capture`]).
//!
//! ```no_run
//! use std::net::{TcpListener, TcpStream};
//! use std::time::Duration;
//!
//! use netns_lab::{HostSpec, Lab, LinkSpec, NatSpec};
//!
//! # fn main() -> anyhow::Result<()> {
//! if netns_lab::isolate()?.is_some() {
//!     return Ok(());
//! }
//! let link = LinkSpec::delay(Duration::from_millis(20));
//! let lab = Lab::builder()
//!     .host(HostSpec::new("server").link(link))
//!     .host(HostSpec::new("a").behind(NatSpec::port_preserving()).link(link))
//!     .build()?;
//! let (server, a) = (lab.host("server"), lab.host("a"));
//! let listener = server.run(|| TcpListener::bind((server.ipv4(), 80)))??;
//! let stream = a.run(|| TcpStream::connect((server.ipv4(), 80)))??;
//! assert_eq!(listener.accept()?.1.ip(), a.external_ipv4());
//! # Ok(())
//! # }
//! ```
//!
//! # What always holds
//!
//! - Nothing touches the network of the machine: every link of a lab is in namespaces that only its
//!   process holds.
//! - Nothing is left behind. Dropping a [`Lab`] kills its programs; the end of the process, by
//!   whatever cause, kills them and everything they started.
//! - Only the links lose packets, as their seed says.
//! - A lab can only be built inside [`isolate`] or [`test()`], so that the two points above cannot
//!   be forgotten.
//!
//! # What is deliberately absent
//!
//! There is no fallback where namespaces are refused, and no way to skip a test there: both would
//! hide that nothing was tested.

mod capture;
pub mod contender;
mod engine;
mod error;
mod fabric;
mod firewall;
mod isolation;
mod lab;
mod link;
pub mod matrix;
mod middlebox;
pub mod model;
mod namespace;
mod netlink;
pub mod oracle;
mod packet;
mod packet_socket;
mod prefix;
pub mod preset;
mod record;
pub mod report;
pub mod scenario;
mod support;
mod testing;
mod topology;
mod tracked;
pub mod virtual_time;

pub use capture::{Capture, Direction, End, Fate, Handshake, Packet, Transport};
pub use error::Error;
pub use fabric::{Gate, GateError, PacketKind, PacketPattern};
pub use isolation::{isolate, isolate_passing_signals, pass_signals_to};
pub use lab::{BoxEngine as Engine, Host, Lab, LabBuilder, Nat};
pub use link::{BurstLoss, Crossing, LinkError, LinkSpec, Loss};
pub use middlebox::SharedModel;
pub use p2pconnect_nat::{
    Dependence, Directions, Hairpinning, Limits, NatSpec, Pooling, PortAssignment, PortRange,
    RstEffect, SimultaneousOpen, SpecError, Timers, Translation, Translation6, UnsolicitedSyn,
    WhenFull,
};
pub use packet::TcpFlags;
pub use record::{Event, EventLog, LogEntry, Remark};
pub use support::support;
pub use testing::{Outcome, TestRun, test};
pub use topology::{BoxSpec, HostSpec, Topology};
pub use tracked::{TcpState, TrackedConnection};
