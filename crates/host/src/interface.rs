//! The addresses of a host's interfaces.

use std::net::IpAddr;

/// An address of a host, and the interface that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The name of the interface.
    pub name: String,
    /// The address.
    pub ip: IpAddr,
    /// The length of the prefix of the network that the address is in.
    pub prefix: u8,
    /// Whether the interface is up and has a carrier. A bridge has none while it has no members.
    pub is_running: bool,
    /// Whether the interface is a bridge, as far as the system says so: the network of containers,
    /// as a rule.
    pub is_bridge: bool,
}
