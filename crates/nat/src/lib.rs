//! How a NAT or firewall behaves, in the words of the RFCs, and whether two hosts behind such boxes
//! can connect.
//!
//! [`NatSpec`] describes a box. [`oracle`] takes the boxes before each of two hosts and says
//! whether a punch must work, may work with luck, or cannot, and why.
//!
//! Everything here is pure: no socket, no clock, no randomness.

pub mod oracle;
mod spec;

pub use spec::{
    Dependence, Directions, Hairpinning, Limits, NatSpec, Pooling, PortAssignment, PortRange,
    PrefixPair, RstEffect, SimultaneousOpen, SpecError, Timers, Translation, Translation6,
    UnsolicitedSyn, WhenFull,
};
