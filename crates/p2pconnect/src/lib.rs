//! Direct, authenticated TCP streams between peers behind NATs.
//!
//! An [`Endpoint`] has a secret key and knows one coordinator. It learns how the NATs in front of
//! it map its punch ports, keeps those mappings alive, and can then be dialled by peer id, or dial
//! others:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use p2pconnect::{Endpoint, SecretKey};
//! use tokio::io::AsyncWriteExt as _;
//!
//! let endpoint = Endpoint::builder()
//!     .secret_key(SecretKey::generate()?)
//!     .coordinator("<server-id>@198.51.100.1:4433".parse()?)
//!     .bind()
//!     .await?;
//! let mut connection = endpoint.dial("<peer-id>".parse()?).await?;
//! println!("{} by {}", connection.peer_id(), connection.path().how);
//! connection.write_all(b"hello").await?;
//! // The peer has it all once this returns.
//! connection.finish().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The stream is TLS 1.3 over one TCP connection with nobody in the middle, opened by both sides at
//! once (RFC 9293 section 3.5) or accepted by one of them. The coordinator, which the command
//! `p2pconnect serve` runs, introduces; it never sees application bytes.
//!
//! The library is for Linux. It needs a Tokio runtime with I/O and time enabled. To reach peers whose
//! NAT gives every connection a random port, a program calls [`raise_file_limit`] before.

mod alone;
mod answer;
mod asked_from;
mod behaviour;
mod bets;
mod builder;
mod chance;
mod circumstances;
mod closed_holes;
mod connecting;
mod connection;
mod coordination;
mod crossing;
mod dial;
mod discovery;
mod ending;
mod endpoint;
mod error;
mod families;
mod file_limit;
mod flights;
mod fresh_ports;
mod gather;
mod hearing;
mod holes;
mod in_use;
mod inbound;
mod interfaces;
mod known_in;
mod leaving;
mod listening;
mod liveness;
mod local_route;
mod mappings;
mod meeting;
mod metrics;
mod more_ports;
mod names;
mod nat64;
mod network;
mod online;
mod outdated;
mod path_faults;
mod port_mapping;
mod preamble;
mod punch_ports;
mod punched;
mod reconnecting;
mod registrations;
mod relay;
mod relayed;
mod remote_candidates;
mod rounds;
mod seats;
mod session;
mod shared;
mod shares;
mod status;
mod stream;
mod surroundings;
mod syn_budget;
mod syn_filter;
mod task;
mod tcp;
mod tcp_info;
mod trails;
mod transport;
mod turns;
mod usage;
mod verify;
mod wakers;

pub use builder::Builder;
pub use connection::{Connection, Path, PathTimes};
pub use endpoint::Endpoint;
pub use error::{BindError, CoordinatorError, DialError, Refused};
pub use file_limit::raise_file_limit;
pub use liveness::Liveness;
pub use metrics::Metrics;
pub use reconnecting::Reconnecting;
pub use status::{PortMappingProtocol, Status};

pub use p2pconnect_identity::{
    InvalidKey, KeyFileError, Readers, SecretKey, TlsConfigError, load_or_create,
    load_or_create_for,
};
pub use p2pconnect_proto::codec::DecodeError;
pub use p2pconnect_proto::message::{DialPolicy, Refusal};
pub use p2pconnect_proto::{
    CandidateKind, CoordinatorAddr, NatFiltering, NatMapping, NatReport, ParseCoordinatorAddrError,
    ParsePeerIdError, PeerId, PortAssignment, Role, UnsolicitedSyn,
};
pub use p2pconnect_punch::{
    CandidatePair, ConnectFailure, How, PairOutcome, PairReport, PunchReport, Verdict,
    VerifyFailure,
};
pub use p2pconnect_stun::{MappingError, shortage::Shortage};
