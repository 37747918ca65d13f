//! The meeting point of p2pconnect: registry and introductions, and the QUIC service around them.
//!
//! Peers register at a [`Coordinator`] where they may be reached and who may dial them. A dialler
//! asks for an introduction, and both sides are told of each other so that they start at the same
//! moment. No byte of what they say to each other afterwards passes through here.
//!
//! The crate has two halves. [`registry`], [`admission`], [`board`] and [`start_delays`] decide;
//! they are pure and take time and randomness as arguments. [`Coordinator`] is the service: QUIC
//! connections, mutual authentication, time bounds, and nothing that decides. [`Rendezvous`] is a
//! coordinator with the STUN servers that its clients need.
//!
//! What is deliberately absent: state that outlives a connection by more than seconds, relaying of
//! application bytes, and trust in anything that a peer says about its own addresses.

#![forbid(unsafe_code)]

pub mod admission;
pub mod board;
mod concealed;
mod members;
mod meter;
pub mod metrics;
mod network;
mod newcomers;
pub mod nodes;
mod rate;
pub mod registry;
mod rendezvous;
mod service;
mod start;

pub use members::Members;
pub use meter::Meter;
pub use p2pconnect_link::web::{Certificate, CertificateError};
pub use registry::{BoardLimits, Limits};
pub use rendezvous::{Rendezvous, RendezvousError, RendezvousPorts, tcp_addresses};
pub use service::{
    BindError, Config, Control, Coordinator, Drain, RunningCoordinator, ServiceLimits,
    memory_for_clients,
};
pub use start::{MAX_DELAY, rtt_via_coordinator_us, start_delays};
