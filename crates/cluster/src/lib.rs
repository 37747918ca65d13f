//! What carries messages between the coordinators of p2pconnect: NATS.
//!
//! [`NatsBus`] is a [`Bus`](p2pconnect_coordinator::nodes::Bus) of core NATS alone, without
//! JetStream: nothing is stored. A message to a subject reaches whoever listens there at that
//! moment, and a request that nobody listens for is answered by the server at once.
//!
//! The library for NATS opens sockets of its own, past the host of the other crates. Nobody but
//! `serve` uses it, on a real machine.

#![forbid(unsafe_code)]

mod backoff;
mod bus;
mod listening;
mod options;

pub use bus::NatsBus;
pub use options::{NatsOptions, OptionsError};
