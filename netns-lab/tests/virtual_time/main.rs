//! Hosts and boxes in virtual time.
//!
//! - `tcp`: TCP between hosts, as Linux would do it
//! - `streams`: data, windows and the ends of TCP connections
//! - `listeners`: listeners and the ports of TCP sockets
//! - `udp`: UDP between hosts, as Linux would do it
//! - `hosts`: what a host is to its programs, and what it sends to itself
//! - `faults`: addresses come and go, and machines restart
//! - `changed`: which sockets something has happened to
//! - `nat`: the NAT model between hosts
//! - `seeds`: the same seed makes the same log
//! - `robustness`: random calls never panic

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;
mod changed;
mod faults;
mod hosts;
mod listeners;
mod nat;
mod robustness;
mod seeds;
mod stage;
mod streams;
mod tcp;
mod udp;
