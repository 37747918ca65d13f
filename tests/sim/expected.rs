//! The kinds of the suite, and what the lab's oracle expects of each pair.

use netns_lab::{
    Dependence, NatSpec, SimultaneousOpen, UnsolicitedSyn,
    oracle::{Endpoint, Outside, punchable},
};
use p2pconnect::Verdict;
use p2pconnect_tests::kinds::{self, Kind};

/// A NAT that tells strangers by ICMP that a port is closed, at once; the kernel of the one who
/// dials treats that unlike a prohibition.
const SENDS_ICMP_PORT: Kind = Kind {
    row: "keeps ports, answers with ICMP port unreachable",
    column: "ICMP port",
    boxes: &[NatSpec::port_preserving().answering(UnsolicitedSyn::IcmpPortUnreachable)],
};

/// A home router behind a NAT with random ports.
const HOME_BEHIND_RANDOM_PORT: Kind = Kind {
    row: "a NAT that keeps ports behind one with random ports",
    column: "two, random",
    boxes: &[NatSpec::port_preserving(), NatSpec::random_port()],
};

/// NATs that refuse simultaneous open, and let in everybody, or whoever has an address that was
/// sent to. With filtering by address and port as well, a SYN that comes in is always one in answer
/// to a SYN, and there is no way.
pub(crate) const REFUSES_CROSSING: [Kind; 2] = [
    Kind {
        row: "refuses simultaneous open, filters nothing",
        column: "no crossing",
        boxes: &[refusing(Dependence::EndpointIndependent)],
    },
    Kind {
        row: "refuses simultaneous open, filters by address",
        column: "no crossing, address",
        boxes: &[refusing(Dependence::AddressDependent)],
    },
];

/// The same with the filtering that leaves no way.
pub(crate) const REFUSES_ALL: Kind = Kind {
    row: "refuses simultaneous open, filters by address and port",
    column: "no crossing, port",
    boxes: &[refusing(Dependence::AddressAndPortDependent)],
};

const fn refusing(filtering: Dependence) -> NatSpec {
    NatSpec {
        simultaneous_open: SimultaneousOpen::Dropped,
        ..NatSpec::port_preserving().filtering(filtering)
    }
}

/// Returns all kinds.
pub(crate) fn all() -> Vec<Kind> {
    let more = [SENDS_ICMP_PORT, HOME_BEHIND_RANDOM_PORT];
    kinds::ALL.into_iter().chain(more).collect()
}

/// Returns the kinds with one external endpoint for all destinations: any two of them connect, by
/// the oracle.
pub(crate) fn reflected() -> Vec<Kind> {
    let reflected = |kind: &Kind| Outside::of(kind.boxes).endpoint == Endpoint::Reflected;
    all().into_iter().filter(reflected).collect()
}

/// Tells whether a dial must connect, by the oracle: ports are predicted, and guessed where that is
/// more likely to work than not.
pub(crate) fn connects(a: &[NatSpec], b: &[NatSpec]) -> bool {
    punchable(a, b).outcome.probability() > 0.5
}

/// Returns what `local` should find when it punches to `remote`; `None` is a connection.
pub(crate) fn verdict(local: Kind, remote: Kind) -> Option<Verdict> {
    if connects(local.boxes, remote.boxes) {
        return None;
    }
    let varies = |kind: Kind| Outside::of(kind.boxes).endpoint != Endpoint::Reflected;
    Some(match (varies(local), varies(remote)) {
        (true, true) => Verdict::BothMappingsVary,
        (true, false) => Verdict::LocalMappingVaries,
        (false, true) => Verdict::RemoteMappingVaries,
        (false, false) => Verdict::Silent,
    })
}
