use std::fmt;

use bincode::{Decode, Encode};

/// How a NAT chooses the external address and port of a new connection (RFC 4787 section 4.1,
/// for TCP RFC 5382 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum NatMapping {
    /// The same for every destination.
    EndpointIndependent,
    /// Another one for each destination address.
    AddressDependent,
    /// Another one for each destination address and port.
    AddressAndPortDependent,
}

impl fmt::Display for NatMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "endpoint-independent mapping",
            Self::AddressDependent => "address-dependent mapping",
            Self::AddressAndPortDependent => "address-and-port-dependent mapping",
        })
    }
}

/// What a peer has found out about the NATs in front of it. `None` means unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NatReport {
    /// How mappings are chosen, as far as the destinations asked so far tell.
    pub mapping: Option<NatMapping>,
    /// Whether the external port equals the local one.
    pub port_preserved: Option<bool>,
}
