//! Between which NATs the projects are compared.

use netns_lab::{Dependence, NatSpec, PortAssignment, UnsolicitedSyn};

/// A kind of box.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// In a few words.
    pub(crate) title: &'static str,
    /// How it behaves.
    pub(crate) nat: NatSpec,
}

/// A pair of kinds, dialled both ways round.
#[derive(Debug)]
pub(crate) struct Row(pub(crate) Kind, pub(crate) Kind);

impl Row {
    /// Returns both kinds in words.
    pub(crate) fn name(&self) -> String {
        if self.0.title == self.1.title {
            format!("{} (both)", self.0.title)
        } else {
            format!("{} - {}", self.0.title, self.1.title)
        }
    }
}

const DROP: Kind = Kind {
    title: "keeps ports, drops",
    nat: NatSpec::port_preserving(),
};

const RST: Kind = Kind {
    title: "keeps ports, RST",
    nat: NatSpec::port_preserving().answering(UnsolicitedSyn::Rst),
};

const OPEN: Kind = Kind {
    title: "filters nothing",
    nat: NatSpec::port_preserving().filtering(Dependence::EndpointIndependent),
};

const RANDOM: Kind = Kind {
    title: "random port, same for all",
    nat: NatSpec::random_port(),
};

const FIREWALL: Kind = Kind {
    title: "firewall, no NAT",
    nat: NatSpec::firewall(),
};

/// As the preset `cisco-asa`: the port is kept for the first destination that a socket talks to,
/// and for the others only where it is free.
const ASA: Kind = Kind {
    title: "Cisco ASA style",
    nat: each(PortAssignment::Preserved),
};

/// As the preset `juniper-cgn`.
const SEQUENTIAL: Kind = Kind {
    title: "next port for each",
    nat: each(PortAssignment::Sequential { delta: 1 }),
};

/// Each subscriber has 256 ports, as with carriers.
const BLOCK: Kind = Kind {
    title: "random of 256 for each",
    nat: each(PortAssignment::RandomInBlock { size: 256 }),
};

const RANDOM_EACH: Kind = Kind {
    title: "random port for each",
    nat: NatSpec::random_per_destination(),
};

/// The pairs, the easy ones first.
pub(crate) const ROWS: &[Row] = &[
    Row(FIREWALL, FIREWALL),
    Row(DROP, DROP),
    Row(RST, RST),
    Row(DROP, RST),
    Row(OPEN, DROP),
    Row(RANDOM, RANDOM),
    Row(RANDOM, DROP),
    Row(RANDOM_EACH, OPEN),
    Row(ASA, DROP),
    Row(SEQUENTIAL, DROP),
    Row(SEQUENTIAL, SEQUENTIAL),
    Row(BLOCK, DROP),
    Row(BLOCK, BLOCK),
    Row(RANDOM_EACH, DROP),
    Row(RANDOM_EACH, RST),
    Row(RANDOM_EACH, RANDOM_EACH),
];

/// A NAT with a port for each destination.
const fn each(ports: PortAssignment) -> NatSpec {
    NatSpec::port_preserving()
        .mapping(Dependence::AddressAndPortDependent)
        .ports(ports)
}
