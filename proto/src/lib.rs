//! What p2pconnect peers and coordinators say to each other.
//!
//! This crate is pure: it knows no socket, clock, thread or async runtime. [`PROTOCOL.md`] beside
//! it describes the same bytes for somebody who writes a second implementation.
//!
//! - [`PeerId`] names a peer: it is the peer's Ed25519 public key.
//! - [`Candidate`] is an address at which a peer may be reached (RFC 8445 section 5.1).
//! - [`AddressScope`] says where such an address leads, in whatever form it is named.
//! - [`board`] has the topics under which peers find each other.
//! - [`message`] holds the requests and answers exchanged with the coordinator.
//! - [`codec`] turns messages into bytes and back, within bounds.
//! - [`preamble`] is what comes first on a connection between two peers.
//! - [`answer`] is what a peer says to a stream that begins: it takes it, or why not.
//! - [`close`] holds the codes with which connections end.
//!
//! [`PROTOCOL.md`]: https://github.com/p2pconnect/p2pconnect/blob/main/proto/PROTOCOL.md

#![forbid(unsafe_code)]

mod address_scope;
pub mod answer;
pub mod board;
mod candidate;
pub mod close;
pub mod codec;
mod connect_back;
mod coordinator_addr;
mod embedded;
mod grease;
mod host;
mod invite;
pub mod message;
mod nat;
pub mod nodes;
mod peer_id;
pub mod preamble;
mod puzzle;
mod reflexive_token;
mod session;
mod succession;

pub use address_scope::{AddressScope, is_global, is_local};
pub use candidate::{Candidate, CandidateKind, PunchPort};
pub use connect_back::{BackFrom, BackOutcome, ConnectBack};
pub use coordinator_addr::{CoordinatorAddr, ParseCoordinatorAddrError, WebPath};
pub use embedded::{portable, represented, unmapped};
pub use grease::{Grease, GreaseSource};
pub use host::{InvalidHost, join_host_port, parse_host, parse_port};
pub use invite::{InvalidInviteSecret, InviteSecret};
pub use nat::{NatFiltering, NatMapping, NatReport, PortAssignment, UnsolicitedSyn};
pub use peer_id::{ParsePeerIdError, PeerId};
pub use puzzle::{MAX_PUZZLE_BITS, Puzzle, Solution};
pub use reflexive_token::{ReflexiveToken, TokenKey};
pub use session::{Opening, Role, SessionToken};
pub use succession::{Succession, asked_for, server_name};

/// The ALPN protocol name of the coordination protocol, which also carries its version.
pub const COORDINATION_ALPN: &[u8] = b"p2pconnect/1";

/// The ALPN protocol name of the TLS handshake between two peers.
pub const PEER_ALPN: &[u8] = b"p2pconnect-peer/1";
