//! Direct, authenticated TCP streams between peers behind NATs.
//!
//! An [`Endpoint`] has a secret key and knows one coordinator or several. It learns how the NATs in
//! front of it map its punch ports, keeps those mappings alive, and can then be dialled by peer id,
//! or dial others:
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
//! The library is for Linux. It needs a Tokio runtime with I/O and time enabled. To reach peers
//! whose NAT gives every connection a random port, a program calls [`raise_file_limit`] before.

mod board;
mod builder;
mod coordinator;
mod dial;
mod endpoint;
mod error;
mod introduction;
mod machine;
mod metrics;
mod nat;
mod online;
mod session;
mod status;
mod stream;
mod sync;

pub use board::{Announcement, Lookup, TopicEvent, Watch};
pub use builder::Builder;
pub use coordinator::{
    probe::{Probe, ProbeError, ProbeStep, probe},
    reconnecting::Reconnecting,
};
pub use endpoint::Endpoint;
pub use error::{BindError, CoordinatorError, DialError, Refused};
pub use metrics::Metrics;
pub use status::{PortMappingProtocol, Status};
pub use stream::{
    connection::{Connection, Path, PathTimes},
    liveness::Liveness,
};

pub use p2pconnect_host::{Host, InheritedSockets, Shortage, raise_file_limit};
pub use p2pconnect_identity::{
    InvalidKey, KeyFileError, KeyOfFile, Readers, SecretKey, TlsConfigError, load_or_create,
    load_or_create_for,
};
pub use p2pconnect_link::{ParseProxyError, Proxy, SetupError, WrongVariable, proxy_of_variables};
pub use p2pconnect_proto::{
    CandidateKind, CoordinatorAddr, InvalidInviteSecret, InviteSecret, NatFiltering, NatMapping,
    NatReport, ParseCoordinatorAddrError, ParsePeerIdError, PeerId, PortAssignment, Role,
    UnsolicitedSyn, WebPath,
    board::Topic,
    codec::DecodeError,
    message::{DialPolicy, Refusal, RefusalReason, Room, Unsupported},
};
pub use p2pconnect_punch::{
    CandidatePair, ConnectFailure, How, OtherIntroductions, PairOutcome, PairReport, PunchReport,
    Verdict, VerifyFailure,
};
pub use p2pconnect_stun::MappingError;
