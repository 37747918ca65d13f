//! STUN (RFC 8489): a client that holds a mapping over TCP, and a server that lets it and answers
//! datagrams as well.
//!
//! A NAT forgets the mapping of a TCP connection when the connection ends. So whoever wants to be
//! reached at a mapped address keeps the connection to the STUN server open, which is what
//! [RFC 8489 section 6.2.2] asks of both sides: the server should leave closing to the client.
//!
//! - [`HeldMapping`] is the client: it connects from a chosen local port, asks again every 15 s
//!   and reports a lost or changed mapping.
//! - [`query()`] asks once, to compare what another server sees; [`connect_back()`] has the server
//!   connect to the client, which shows how the NAT filters.
//! - [`StunServer`] is the server, over TCP and UDP, with limits by network. At two addresses it
//!   lets clients find out how their NAT behaves (RFC 5780).
//! - [`framing`] cuts the byte stream into messages.
//!
//! # Attributes of our own
//!
//! A coordinator believes a server-reflexive address only on a STUN server's word
//! ([`ReflexiveToken`](p2pconnect_proto::ReflexiveToken)). Attributes of one comprehension-optional
//! type, `0xD2C0`, carry it, so that other servers and clients ignore them. Each value begins with
//! the 10 bytes `p2pconnect`, and 2 bytes that tell which one it is; what does not begin like that
//! is somebody else's, and passed over:
//!
//! | bytes | name | in | value |
//! |---|---|---|---|
//! | `0001` | REFLEXIVE-COMMITMENT | Binding request | 32 bytes: the commitment |
//! | `0002` | REFLEXIVE-TOKEN | Binding success response | 8 bytes: expiry in seconds since the Unix epoch, big-endian; 16 bytes: MAC |
//!
//! Two more serve behaviour discovery, where RFC 5780 has nothing for TCP:
//!
//! | bytes | name | in | value |
//! |---|---|---|---|
//! | `0003` | CONNECT-BACK | Binding request | 2 bytes: how many milliseconds to wait, big-endian |
//! | `0004` | CONNECTED-BACK | Binding success response | 2 bytes for each connection made: from where, what became of it |
//!
//! # Deviations from RFC 8489
//!
//! - A message that cannot be parsed ends the connection: after it the framing of the byte stream
//!   is not to be trusted. One whose FINGERPRINT is wrong is framed well and discarded alone.
//! - Authentication and ALTERNATE-SERVER are absent. Credentials in a request are ignored.
//! - Requests of RFC 3489 are answered by UDP alone, and without RESPONSE-ADDRESS.
//! - Of RFC 5780, a server with two addresses leaves PADDING out, which asks for long answers; one
//!   with one address all of it. CHANGE-REQUEST and RESPONSE-PORT are for UDP alone.

mod binding;
mod connect_back;
mod connection;
mod error;
pub mod framing;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod held_mapping;
mod mapping_config;
mod onward;
mod over;
mod own;
mod parse;
mod query;
#[cfg(test)]
mod rfc5769;
mod rhythm;
mod server;
mod witness;

pub use binding::Commitment;
pub use connect_back::connect_back;
pub use error::MappingError;
pub use held_mapping::{HeldMapping, Mapping, MappingEvent, MappingState};
pub use mapping_config::MappingConfig;
pub use onward::Onward;
pub use over::{Opening, Over, Stream};
pub use query::{Query, query};
pub use rhythm::next_keepalive;
pub use server::{
    BYTES_PER_CONNECTION, ListenError, StunMeter, StunServer, StunServerConfig, StunServerHandle,
    StunTaker, StunTransports, TlsConnection, TlsPlace, tls_connections,
};
pub use witness::Witness;

/// The port assigned to STUN over TCP and UDP (RFC 8489 section 17.6).
pub const DEFAULT_PORT: u16 = 3478;
