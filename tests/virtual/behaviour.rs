//! What endpoints find out about the NATs in front of them, compared with what the oracle knows.

use netns_lab::{
    Dependence, UnsolicitedSyn as Answers,
    contender::{Path, Punch},
    oracle::{Endpoint, Outside},
    preset,
    virtual_time::World,
};
use p2pconnect::{NatFiltering, NatMapping, NatReport, PortAssignment, UnsolicitedSyn};
use p2pconnect_tests::{settled::settled, virtual_ground::VirtualGround};

fn filtering(outside: &Outside) -> NatFiltering {
    match outside.filtering {
        Dependence::EndpointIndependent => NatFiltering::EndpointIndependent,
        Dependence::AddressDependent => NatFiltering::AddressDependent,
        Dependence::AddressAndPortDependent => NatFiltering::AddressAndPortDependent,
    }
}

/// A program cannot tell ICMP "port unreachable" from a reset, nor late ICMP from silence.
fn unsolicited(outside: &Outside) -> Option<UnsolicitedSyn> {
    if outside.filtering == Dependence::EndpointIndependent {
        return None;
    }
    Some(match outside.unsolicited {
        Answers::Nothing | Answers::IcmpPortUnreachableAfter(_) => UnsolicitedSyn::Dropped,
        Answers::Rst | Answers::IcmpPortUnreachable => UnsolicitedSyn::Reset,
        Answers::IcmpProhibited => UnsolicitedSyn::Icmp,
    })
}

/// Tells whether the report says of mapping and ports what the oracle says.
fn agrees(report: &NatReport, endpoint: Endpoint) -> bool {
    let stable = report.mapping == Some(NatMapping::EndpointIndependent);
    match (endpoint, report.ports) {
        (Endpoint::Reflected, _) => stable,
        (_, _) if stable => false,
        (Endpoint::Kept, ports) => ports == Some(PortAssignment::Preserved),
        (Endpoint::Sequential(delta), ports) => ports == Some(PortAssignment::Sequential { delta }),
        (Endpoint::Random(count), Some(PortAssignment::Random { first, last })) => {
            // What is added to the range that was seen is an estimate.
            let found = u32::from(last - first) + 1;
            count <= found + found / 10 && found < 2 * count
        }
        (Endpoint::Random(_), _) => false,
    }
}

#[test]
fn endpoints_find_out_what_the_oracle_knows_of_their_boxes() {
    for preset in preset::all() {
        for seed in 0..4 {
            let chain = preset.specs();
            let topology = Path::default().topology(&Punch::default(), [&chain, &[]]);
            let world = World::build(&topology, seed).unwrap();
            let report = VirtualGround::run_in(world, "server", seed, async |ground| {
                settled(ground.endpoint("a")).await.1
            });
            let outside = Outside::of(&chain);
            let case = format!("{}, seed {seed}: {report:?}, {outside}", preset.name);
            assert!(agrees(&report, outside.endpoint), "{case}");
            assert_eq!(report.filtering, Some(filtering(&outside)), "{case}");
            assert_eq!(report.unsolicited, unsolicited(&outside), "{case}");
        }
    }
}
