//! What netfilter can be made to do.

use p2pconnect_nat::{
    Dependence, Directions, Hairpinning, NatSpec, Pooling, PortAssignment, RstEffect, SpecError,
    Translation6, UnsolicitedSyn, WhenFull,
};

use super::tracking;
use crate::error::Error;

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
    let limited = tracking::limit(spec).is_some();
    [
        (
            spec.translation6 != Translation6::None,
            "translate IPv6 in a lab, whose hosts have public addresses",
        ),
        (late, "wait before it answers a SYN"),
        (
            spec.rst != RstEffect::Closes,
            "keep a connection after a reset",
        ),
        (
            !spec.udp_inbound_refresh,
            "forget a UDP session that packets come in for",
        ),
        (
            limited && spec.limits.when_full != WhenFull::Refuse,
            "forget a connection to make room for another",
        ),
        (
            spec.strip_window_scale != Directions::Neither,
            "take options out of SYNs",
        ),
        (spec.drop_ecn_udp, "drop UDP for its ECN mark"),
        (spec.drop_udp, "drop all UDP"),
    ]
}

fn translating(spec: &NatSpec) -> [(bool, &'static str); 4] {
    let linux = spec.ports == PortAssignment::PreservedWithOverload;
    let hairpinning = spec.hairpinning != Hairpinning::None;
    [
        (
            linux && spec.mapping != Dependence::EndpointIndependent,
            "overload ports with a mapping that depends on the destination",
        ),
        (
            spec.hairpinning == Hairpinning::InternalSource,
            "send packets back with their internal source",
        ),
        (
            hairpinning && spec.filtering != Dependence::EndpointIndependent,
            "filter what it sends back",
        ),
        (
            spec.pooling != Pooling::Paired,
            "give one host several addresses",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_made_of_linux_can_be_played_and_some_others_not() {
        let of = |name| {
            let specs = crate::preset::find(name).map(crate::preset::Preset::specs);
            let specs = specs.unwrap_or_default();
            assert!(!specs.is_empty(), "{name}");
            specs.iter().try_for_each(check)
        };
        for linux in ["linux-router", "openwrt", "android-hotspot", "docker"] {
            assert_eq!(of(linux), Ok(()), "{linux}");
        }
        let survives = "keep a connection after a reset";
        assert_eq!(of("pf"), Err(Refusal::Inexpressible(survives)));
        let waits = "wait before it answers a SYN";
        assert_eq!(of("cgnat-rfc6888"), Err(Refusal::Inexpressible(waits)));
    }
}
