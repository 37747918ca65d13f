//! NAT labs made of Linux network namespaces, without root and without ip or nft.

mod capture;
mod engine;
mod error;
mod firewall;
mod isolation;
mod lab;
mod link;
mod namespace;
mod nat;
mod netlink;
mod packet_socket;
mod support;
mod testing;

pub use capture::{Capture, Direction, End, Fate, Handshake, Packet, TcpFlags, Transport};
pub use error::Error;
pub use isolation::isolate;
pub use lab::{Host, HostSpec, Lab, LabBuilder, Nat};
pub use link::LinkSpec;
pub use nat::{Filtering, Mapping, NatSpec, Unsolicited};
pub use netlink::conntrack::{TcpState, TrackedConnection};
pub use support::support;
pub use testing::{Outcome, TestRun, test};
