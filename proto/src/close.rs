//! The application error codes with which QUIC connections and streams end (RFC 9000 section 20.2).
//!
//! A connection close carries the code and a short reason in English for people. A stream reset
//! or stop carries the code alone.

/// Nothing more is wanted. What a peer closes with when it leaves.
pub const DONE: u32 = 0;

/// The coordinator shuts down; try again later or elsewhere.
pub const GOING_AWAY: u32 = 1;

/// The other side broke this protocol; trying the same again will fail the same way.
pub const PROTOCOL_VIOLATION: u32 = 2;

/// The same peer id has registered over another connection since. Whoever receives this must not
/// register again by itself, or two processes with one key would replace each other for ever.
pub const REPLACED: u32 = 3;

/// The coordinator has no room; try again after some seconds.
pub const OVERLOADED: u32 = 4;

/// The other side took too long to send or to receive something.
pub const TIMED_OUT: u32 = 5;

/// The side that closes has failed itself.
pub const INTERNAL: u32 = 6;

/// The coordinator does not serve this peer id; try again when its operator has allowed it.
pub const NOT_SERVED: u32 = 7;
