//! Where hosts appear, against what the oracle says can be known of it.

use netns_lab::{
    Dependence, NatSpec, PortAssignment,
    oracle::{Endpoint, Outside},
};

use crate::{puncher::PORT, stage::Stage};

pub(crate) const DEPENDENCES: [Dependence; 3] = [
    Dependence::EndpointIndependent,
    Dependence::AddressDependent,
    Dependence::AddressAndPortDependent,
];

pub(crate) const ASSIGNMENTS: [PortAssignment; 5] = [
    PortAssignment::Preserved,
    PortAssignment::PreservedWithOverload,
    PortAssignment::Sequential { delta: 3 },
    PortAssignment::Random,
    PortAssignment::RandomInBlock { size: 512 },
];

/// How a puncher can come to know an endpoint.
#[derive(Debug, Clone, Copy)]
enum Knowledge {
    /// It asks from the port that it will dial from.
    Reflected,
    /// It does not, and trusts in its own port.
    Kept,
    /// It asks from two other ports, and adds their difference.
    Predicted,
}

/// Returns whether a host then appears where the puncher expects it.
fn is_right(chain: &[NatSpec], knowledge: Knowledge, seed: u64) -> bool {
    let mut stage = Stage::new([chain, &[]], seed);
    let peer = stage.local(1, PORT);
    let expected = match knowledge {
        Knowledge::Reflected => stage.ask(0, PORT).port(),
        Knowledge::Kept => PORT,
        Knowledge::Predicted => {
            let [one, other] = [1, 2].map(|next| stage.ask(0, PORT + next).port());
            other.wrapping_add(other.wrapping_sub(one))
        }
    };
    stage.foresee(0, PORT, peer).port() == expected
}

fn check(chain: &[NatSpec]) {
    let knows = |knowledge| (1..=3).all(|seed| is_right(chain, knowledge, seed));
    let reflected = knows(Knowledge::Reflected);
    let kept = knows(Knowledge::Kept);
    let predicted = knows(Knowledge::Predicted);
    let endpoint = Outside::of(chain).endpoint;
    let agrees = match endpoint {
        Endpoint::Reflected => reflected,
        Endpoint::Kept => !reflected && kept,
        Endpoint::Sequential(_) => !reflected && !kept && predicted,
        Endpoint::Random(_) => !reflected && !kept && !predicted,
    };
    let seen = (reflected, kept, predicted);
    assert!(agrees, "{endpoint:?} but {seen:?}: {chain:?}");
}

fn boxes() -> Vec<NatSpec> {
    let mut boxes = Vec::new();
    for mapping in DEPENDENCES {
        boxes.extend(ASSIGNMENTS.map(|ports| NatSpec {
            mapping,
            ports,
            ..NatSpec::rfc5382()
        }));
    }
    boxes
}

#[test]
fn no_box_and_a_firewall_show_the_host_itself() {
    check(&[]);
    check(&[NatSpec::firewall()]);
}

#[test]
fn one_box_of_each_kind() {
    for spec in boxes() {
        check(&[spec]);
    }
}

#[test]
fn two_boxes_of_all_kinds() {
    for inner in boxes() {
        for outer in boxes() {
            check(&[inner, outer]);
        }
    }
}

#[test]
fn one_endpoint_for_all_ports_of_a_peer() {
    for spec in boxes() {
        let chain = [spec];
        let mut stage = Stage::new([&chain, &[]], 5);
        let host = stage.host(0);
        let [one, other] = [1, 2].map(|port| {
            let remote = stage.local(1, port);
            let seen = stage.foresee(0, PORT, remote);
            let local = stage.local(0, PORT);
            stage.world.connect(host, local, remote).unwrap();
            let now = stage.world.now();
            stage.world.run_until(now, |_| false);
            seen
        });
        let said = Outside::of(&chain).same_for_peer;
        assert_eq!(one == other, said, "{spec:?}");
    }
}
