//! Hosts and boxes in virtual time.
//!
//! - `tcp`: TCP between hosts, as Linux would do it
//! - `udp`: UDP between hosts, as Linux would do it
//! - `faults`: addresses come and go, and machines restart
//! - `changed`: which sockets something has happened to
//! - `nat`: the NAT model between hosts
//! - `seeds`: the same seed makes the same log

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;
mod changed;
mod faults;
mod nat;
mod seeds;
mod stage;
mod tcp;
mod udp;
