//! What the programs that are compared have in common: their command line, what they measure and
//! how they say it.
//!
//! Every project has one program with the same three roles:
//!
//! ```text
//! PROGRAM serve ADDRESS:PORT                      prints: ready SERVER
//! PROGRAM listen SERVER                           prints: ready PEER
//! PROGRAM dial SERVER PEER LIMIT BULK  prints: direct cold_ms=... or: failed REASON
//! ```
//!
//! `serve` is what the project needs in public: a relay, a coordinator. LIMIT is how many seconds
//! the dialler has; a dial that failed has exit status 1. After the dial the stream is filled for
//! BULK seconds, or carries one byte if that is 0, and the listener answers what it got: nothing
//! counts as a connection that did not carry bytes both ways.

mod roles;
mod stopwatch;
mod traffic;

pub use roles::{Dial, Role, announce};
pub use stopwatch::{Arrival, Stopwatch, processor_time};
pub use traffic::{Received, answer, fill};
