//! Hosts and boxes in virtual time.
//!
//! - `tcp`: TCP between hosts, as Linux would do it
//! - `nat`: the NAT model between hosts
//! - `seeds`: the same seed makes the same log

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;
mod nat;
mod seeds;
mod tcp;
