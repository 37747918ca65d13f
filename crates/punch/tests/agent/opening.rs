//! The attempts that an agent begins with.

use std::collections::BTreeSet;

use p2pconnect_proto::{
    Candidate, CandidateKind, NatMapping, NatReport, PortAssignment, PunchPort, Role,
};
use p2pconnect_punch::{Action, Base, ConnectFailure, Event, Introduced, Verdict};

use crate::rig::{
    HERE, HERE_SPARE, P, PEER, PEER_SPARE, Q, Rig, address, base, behind_nats, host, introduced,
    maps, reflexive,
};

#[test]
fn the_primary_pairs_of_all_kinds_start_at_once() {
    let bases = [
        base(HERE, P),
        base("[2001:db8::2]:4000", P),
        base(HERE_SPARE, Q),
    ];
    let remote = [
        host("10.0.0.5:5000", P),
        reflexive(PEER, P),
        host("[2001:db8::5]:5000", P),
        reflexive(PEER_SPARE, Q),
    ];
    let mut rig = Rig::new(introduced(Role::Controlling, &bases, &remote));
    let remotes: BTreeSet<_> = rig.connects().into_iter().map(|(_, _, to)| to).collect();
    let expected = ["10.0.0.5:5000", PEER, "[2001:db8::5]:5000"].map(address);
    assert_eq!(remotes, BTreeSet::from(expected));
}

#[test]
fn both_sides_form_the_same_pairs_in_the_same_stages() {
    let mut stages = [Role::Controlling, Role::Controlled].map(|role| {
        let mut rig = Rig::new(behind_nats(role));
        [0, 170, 290, 410].map(|ms| {
            rig.run_to(ms);
            let ports = |(_, local, remote): &(_, std::net::SocketAddr, std::net::SocketAddr)| {
                (local.port() % 1000, remote.port() % 1000)
            };
            rig.connects().iter().map(ports).collect::<Vec<_>>()
        })
    });
    let mirrored = stages[1].iter_mut().flatten();
    mirrored.for_each(|ports| *ports = (ports.1, ports.0));
    assert_eq!(stages[0], stages[1]);
    assert_eq!(stages[0].concat(), [(0, 0), (1, 1), (0, 1), (1, 0)]);
}

#[test]
fn an_address_that_is_host_and_reflexive_is_dialled_once() {
    let remote = [reflexive(PEER, P), host(PEER, P)];
    let mut rig = Rig::new(introduced(Role::Controlling, &[base(HERE, P)], &remote));
    assert_eq!(rig.connects().len(), 1);
}

#[test]
fn a_port_that_is_predicted_twice_and_seen_is_dialled_once() {
    let predicted = Candidate {
        kind: CandidateKind::Predicted,
        ..host(PEER, PunchPort::FRESH)
    };
    let remote = [reflexive(PEER, P), predicted];
    let mut told = introduced(Role::Controlling, &[base(HERE, P)], &remote);
    told.remote_nat = NatReport {
        ports: Some(PortAssignment::Sequential { delta: 0x8000 }),
        ..maps(NatMapping::AddressAndPortDependent)
    };
    let mut rig = Rig::new(told);
    rig.run_to(500);
    let remotes: Vec<_> = rig.connects().into_iter().map(|(_, _, to)| to).collect();
    assert_eq!(remotes, [PEER, "198.51.100.7:37768"].map(address));
}

#[test]
fn no_port_is_predicted_from_an_address_of_the_other_family() {
    let there = |port, kind, punch_port| Candidate {
        kind,
        ..host(&format!("[64:ff9b::c633:6407]:{port}"), punch_port)
    };
    let remote = [
        there(5000, CandidateKind::ServerReflexive, P),
        there(5100, CandidateKind::Predicted, PunchPort::FRESH),
    ];
    let bases = [base(HERE, P), base("192.168.1.2:4002", PunchPort::FRESH)];
    let mut told = introduced(Role::Controlling, &bases, &remote);
    told.translated = [remote[0].address.ip()].into();
    told.remote_nat = NatReport {
        ports: Some(PortAssignment::Sequential { delta: 1 }),
        ..maps(NatMapping::AddressAndPortDependent)
    };
    let mut rig = Rig::new(told);
    assert_eq!(rig.actions(), []);
}

#[test]
fn pairs_that_cannot_work_are_left_out() {
    let cases: [(Base, Candidate); 9] = [
        (base(HERE, P), host("127.0.0.1:5000", P)),
        (base("127.0.0.1:4000", P), host(PEER, P)),
        (base(HERE, P), host("0.0.0.0:5000", P)),
        (base(HERE, P), host("224.0.0.1:5000", P)),
        (base(HERE, P), host("198.51.100.7:0", P)),
        (base(HERE, P), host(HERE, P)),
        (base(HERE, P), host("169.254.1.1:5000", P)),
        (base(HERE, P), host("[2001:db8::5]:5000", P)),
        (base("[fe80::1]:4000", P), host("[fe80::2]:5000", P)),
    ];
    for (base, candidate) in cases {
        let case = format!("{base:?} {candidate:?}");
        let mut rig = Rig::new(introduced(Role::Controlling, &[base], &[candidate]));
        assert_eq!(rig.actions(), [], "{case}");
        assert_eq!(rig.report().verdict, Verdict::NoCommonFamily, "{case}");
    }
}

#[test]
fn an_address_is_dialled_from_where_its_route_begins() {
    let line = "10.77.0.1:4000";
    let remote = [reflexive(PEER, P), host("10.77.0.2:5000", P)];
    let bases = [base(line, P), base(HERE, P)];
    let mut told = introduced(Role::Controlling, &bases, &remote);
    let ends = |told: &Introduced| {
        let connects = Rig::new(told.clone()).connects();
        let ends = connects.into_iter().map(|(_, from, to)| (from, to));
        ends.collect::<BTreeSet<_>>()
    };
    assert_eq!(ends(&told).len(), 4);
    let routes =
        [(PEER, HERE), ("10.77.0.2:5000", line)].map(|(to, from)| (address(to), address(from)));
    told.routes = routes.map(|(to, from)| (to.ip(), from.ip())).into();
    let expected = routes.map(|(to, from)| (from, to));
    assert_eq!(ends(&told), BTreeSet::from(expected));
}

#[test]
fn two_peers_on_one_machine_meet_over_loopback() {
    let bases = [base("127.0.0.1:4000", P)];
    let remote = [host("127.0.0.1:5000", P)];
    let mut rig = Rig::new(introduced(Role::Controlling, &bases, &remote));
    assert_eq!(rig.connects().len(), 1);
}

#[test]
fn many_pairs_start_a_little_apart_and_the_reflexive_ones_first() {
    let bases = [base(HERE, P)];
    let private = |n: u8| host(&format!("10.0.0.{n}:5000"), P);
    let mut remote: Vec<_> = (1..=15).map(private).collect();
    remote.push(reflexive(PEER, P));
    let mut rig = Rig::new(introduced(Role::Controlling, &bases, &remote));
    let at_once = rig.connects();
    assert_eq!((at_once.len(), at_once[0].2), (12, address(PEER)));
    rig.run_to(20);
    assert_eq!(rig.connects().len(), 4);
}

#[test]
fn the_spare_port_waits_while_a_connection_is_verified() {
    let (mut rig, check) = Rig::dialling(Role::Controlled);
    rig.at(100).connected(check);
    rig.run_to(340);
    assert_eq!(rig.connects(), []);
    rig.run_to(360);
    assert!(!rig.connects().is_empty());
}

#[test]
fn a_peer_whose_addresses_mean_nothing_here_may_connect_all_the_same() {
    let nowhere = Introduced {
        may_be_reached: true,
        ..introduced(Role::Controlling, &[base(HERE, P)], &[])
    };
    let mut rig = Rig::new(nowhere.clone());
    rig.run_to(599);
    let check = rig.accepted(PEER).unwrap();
    assert_eq!(rig.actions(), [Action::Verify { check }]);
    rig.verified(check);
    assert!(matches!(
        rig.agent.poll_event(),
        Some(Event::Established { .. })
    ));
    // Where nobody comes, the dial does not take long.
    let mut rig = Rig::new(nowhere);
    rig.run_to(599);
    assert_eq!(rig.agent.poll_event(), None);
    rig.run_to(601);
    assert_eq!(rig.report().verdict, Verdict::NoCommonFamily);
}

#[test]
fn where_the_system_reaches_no_address_its_reason_is_told() {
    let mut told = introduced(Role::Controlling, &[], &[reflexive(PEER, P)]);
    told.unrouted = [(address(PEER).ip(), ConnectFailure::NetworkUnreachable)].into();
    let report = Rig::new(told).report();
    assert_eq!(report.verdict, Verdict::NotSent);
    assert_eq!(report.pairs[0].pair.remote, address(PEER));
    assert!(
        report.to_string().contains("it has no route there"),
        "{report}"
    );
}

#[test]
fn where_nothing_may_be_sent_the_reason_is_told() {
    let (mut rig, first) = Rig::dialling(Role::Controlling);
    rig.failed(first, ConnectFailure::NotPermitted);
    rig.at(1).give_up();
    let report = rig.report();
    assert_eq!(report.verdict, Verdict::NotSent);
    let reason = "its system does not permit it";
    assert!(report.to_string().contains(reason), "{report}");
}
