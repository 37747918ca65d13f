//! What netfilter can be made to do.

use crate::error::Error;
use crate::spec::{
    Dependence, Hairpinning, Limits, NatSpec, Pooling, PortAssignment, PortRange, RstEffect,
    SimultaneousOpen, SpecError, Translation6, UnsolicitedSyn,
};

/// Why netfilter cannot be a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing could.
    Impossible(SpecError),
    /// Netfilter cannot do this.
    Inexpressible(&'static str),
}

impl Refusal {
    pub(crate) fn of_host(self, name: String) -> Error {
        match self {
            Self::Impossible(source) => Error::InvalidNat { name, source },
            Self::Inexpressible(what) => Error::Inexpressible { name, what },
        }
    }
}

/// Checks that netfilter can be the box.
pub(crate) fn check(spec: &NatSpec) -> Result<(), Refusal> {
    spec.check().map_err(Refusal::Impossible)?;
    if !spec.translates() {
        return first(&always(spec));
    }
    first(&always(spec)).and_then(|()| first(&translating(spec)))
}

/// Returns the first refusal that applies.
fn first(refusals: &[(bool, &'static str)]) -> Result<(), Refusal> {
    refusals
        .iter()
        .find(|(applies, _)| *applies)
        .map_or(Ok(()), |(_, what)| Err(Refusal::Inexpressible(what)))
}

fn always(spec: &NatSpec) -> [(bool, &'static str); 8] {
    let late = matches!(
        spec.unsolicited,
        UnsolicitedSyn::IcmpPortUnreachableAfter(_)
    );
    [
        (
            spec.translation6 != Translation6::None,
            "translate IPv6 in a lab, whose hosts have public addresses",
        ),
        (
            spec.filtering == Dependence::AddressDependent,
            "filter by address alone",
        ),
        (late, "wait before it answers a SYN"),
        (
            spec.unsolicited == UnsolicitedSyn::IcmpPortUnreachable,
            "answer a SYN with port unreachable",
        ),
        (
            spec.simultaneous_open != SimultaneousOpen::Allowed,
            "refuse a simultaneous open",
        ),
        (
            spec.rst != RstEffect::Closes,
            "keep a connection after a reset",
        ),
        (
            spec.hairpinning != Hairpinning::None,
            "send packets back to where they came from",
        ),
        (
            spec.limits != Limits::GENEROUS,
            "limit the connections of one box",
        ),
    ]
}

fn translating(spec: &NatSpec) -> [(bool, &'static str); 4] {
    let per_destination = spec.mapping == Dependence::AddressAndPortDependent;
    let known = match spec.ports {
        PortAssignment::PreservedWithOverload => spec.mapping == Dependence::EndpointIndependent,
        PortAssignment::Random => spec.mapping != Dependence::AddressDependent,
        _ => false,
    };
    let ranged = spec.ports == PortAssignment::Random && !per_destination;
    [
        (
            !known,
            "give out ports in this way and for these destinations",
        ),
        (
            !ranged && spec.port_range != PortRange::UNPRIVILEGED,
            "keep these ports in a range",
        ),
        (
            per_destination && spec.filtering != Dependence::AddressAndPortDependent,
            "let others in at a port that is for one destination",
        ),
        (
            spec.pooling != Pooling::Paired,
            "give one host several addresses",
        ),
    ]
}
