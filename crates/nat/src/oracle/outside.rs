//! What a chain of boxes shows to the outside.

use std::fmt;

use crate::spec::{
    Dependence, NatSpec, PortAssignment, RstEffect, SimultaneousOpen, Translation, UnsolicitedSyn,
};

/// What a chain of boxes shows to the outside.
///
/// The [`Display`](fmt::Display) form continues the sentence "a …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// Where the host behind it appears to a peer.
    pub endpoint: Endpoint,
    /// Whether all ports of one peer see the same endpoint.
    pub same_for_peer: bool,
    /// Whom it lets in: the strictest filtering of its boxes.
    pub filtering: Dependence,
    /// The answer to a SYN that it does not let in.
    pub unsolicited: UnsolicitedSyn,
    /// What it does with a SYN that crosses one from inside: the answer of the outermost box that
    /// refuses it.
    pub simultaneous_open: SimultaneousOpen,
    pub(super) boxes: Vec<NatSpec>,
}

/// What can be known of the endpoint that a host will appear from to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// The one that a server has seen.
    Reflected,
    /// The port that the host dials from, if it has not used it before.
    Kept,
    /// The last one that a server has seen plus this.
    Sequential(u16),
    /// One of this many ports.
    Random(u32),
}

/// What is known of a port on its way out through the chain.
#[derive(Clone, Copy)]
enum Known {
    /// It is the same as towards the server, or as inside.
    Same,
    Next(u16),
    AnyOf(u32),
}

impl Outside {
    /// Returns whether its filtering makes the other side's port matter.
    pub(super) fn needs_exact(&self) -> bool {
        self.filtering == Dependence::AddressAndPortDependent
    }

    /// Derives it from the boxes, the innermost first.
    pub fn of(boxes: &[NatSpec]) -> Self {
        let endpoint = Endpoint::of(boxes);
        let refusing = boxes
            .iter()
            .rev()
            .find(|spec| spec.filtering != Dependence::EndpointIndependent);
        let strictest = boxes.iter().map(|spec| spec.filtering).max();
        let crossing = boxes.iter().rev().map(|spec| spec.simultaneous_open);
        Self {
            endpoint,
            same_for_peer: boxes.iter().all(is_same_for_peer),
            filtering: strictest.unwrap_or(Dependence::EndpointIndependent),
            // A host without a box has its stack, which resets.
            unsolicited: refusing
                .or_else(|| boxes.last())
                .map_or(UnsolicitedSyn::Rst, |spec| spec.unsolicited),
            simultaneous_open: crossing
                .into_iter()
                .find(|open| *open != SimultaneousOpen::Allowed)
                .unwrap_or(SimultaneousOpen::Allowed),
            boxes: boxes.to_vec(),
        }
    }

    /// Returns whether a reset takes a hole away.
    pub(super) fn closes_at_rst(&self) -> bool {
        self.boxes.iter().any(|spec| spec.rst == RstEffect::Closes)
    }
}

impl Endpoint {
    /// Returns whether a peer can know it beforehand.
    pub const fn is_predictable(self) -> bool {
        !matches!(self, Self::Random(_))
    }

    /// Returns whether a mapping that is gone comes back with the same port.
    pub(super) const fn is_fixed(self) -> bool {
        matches!(self, Self::Reflected | Self::Kept)
    }

    /// Returns how many ports it may be.
    pub(super) const fn ports(self) -> u32 {
        match self {
            Self::Reflected | Self::Kept | Self::Sequential(_) => 1,
            Self::Random(ports) => ports,
        }
    }

    fn of(boxes: &[NatSpec]) -> Self {
        let translating = || boxes.iter().filter(|spec| translates(spec));
        let asked = translating().fold(Known::Same, after_question);
        let fresh = translating().fold(Known::Same, unused);
        match (asked, fresh) {
            (Known::Same, _) => Self::Reflected,
            (_, Known::Same) => Self::Kept,
            (Known::Next(delta), _) | (_, Known::Next(delta)) => Self::Sequential(delta),
            (Known::AnyOf(one), Known::AnyOf(other)) => Self::Random(one.min(other)),
        }
    }
}

/// A box whose host has asked the server from the port that it will dial from.
fn after_question(inside: Known, spec: &NatSpec) -> Known {
    let depends = spec.mapping != Dependence::EndpointIndependent;
    match (inside, spec.ports) {
        (Known::Same, PortAssignment::PreservedWithOverload) => Known::Same,
        (Known::Same, _) if !depends => Known::Same,
        // The mapping towards the server has the port.
        (Known::Same, PortAssignment::Preserved) => Known::AnyOf(range(spec)),
        _ => unused(inside, spec),
    }
}

/// A box that has not seen the port before.
fn unused(inside: Known, spec: &NatSpec) -> Known {
    match spec.ports {
        PortAssignment::Preserved | PortAssignment::PreservedWithOverload => inside,
        PortAssignment::Sequential { delta } => Known::Next(delta),
        PortAssignment::Random => Known::AnyOf(range(spec)),
        PortAssignment::RandomInBlock { size } => Known::AnyOf(size.into()),
    }
}

fn range(spec: &NatSpec) -> u32 {
    let (first, last) = (spec.port_range.first, spec.port_range.last);
    (u32::from(last) + 1).saturating_sub(u32::from(first))
}

fn translates(spec: &NatSpec) -> bool {
    spec.translation != Translation::None
}

fn is_same_for_peer(spec: &NatSpec) -> bool {
    !translates(spec)
        || spec.mapping != Dependence::AddressAndPortDependent
        || spec.ports == PortAssignment::PreservedWithOverload
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.boxes.is_empty() {
            return f.write_str("has a public address and no box before it");
        }
        let filtering = match self.filtering {
            Dependence::EndpointIndependent => "whoever sends to an endpoint that it has used",
            Dependence::AddressDependent => "only addresses that it has sent to",
            Dependence::AddressAndPortDependent => "only endpoints that it has sent to",
        };
        let answer = match self.unsolicited {
            UnsolicitedSyn::Nothing => "silent to other SYNs",
            UnsolicitedSyn::Rst => "answers other SYNs with RST",
            UnsolicitedSyn::IcmpProhibited | UnsolicitedSyn::IcmpPortUnreachable => {
                "answers other SYNs with ICMP"
            }
            UnsolicitedSyn::IcmpPortUnreachableAfter(_) => "answers other SYNs with ICMP, but late",
        };
        let open = match self.simultaneous_open {
            SimultaneousOpen::Allowed => "allows simultaneous open",
            SimultaneousOpen::Dropped => "drops a SYN that crosses its own",
            SimultaneousOpen::Reset => "answers a SYN that crosses its own with RST",
        };
        write!(
            f,
            "appears from {}, lets in {filtering}, {answer}, {open}",
            self.endpoint
        )
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reflected => f.write_str("the endpoint that the server has seen"),
            Self::Kept => f.write_str("the port that it dials from, as long as that is unused"),
            Self::Sequential(delta) => {
                write!(f, "the last port that the server has seen plus {delta}")
            }
            Self::Random(ports) => {
                write!(f, "a new random port, one of {ports}, for each destination")
            }
        }
    }
}
