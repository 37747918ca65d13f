//! The modelled NAT, packet by packet.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod behaviours;
mod bench;
mod defects;
mod echo;
mod ipv6;
mod ports;
mod rfc5382;
mod robustness;
