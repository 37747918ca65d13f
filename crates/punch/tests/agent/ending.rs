//! When and how an agent ends.

use p2pconnect_proto::{
    Candidate, CandidateKind, NatFiltering, NatMapping, NatReport, PortAssignment, PunchPort, Role,
    UnsolicitedSyn,
};
use p2pconnect_punch::{Action, ConnectFailure, Introduced, PairOutcome, Verdict, VerifyFailure};

use crate::rig::{HERE, P, PEER, Rig, address, base, behind_nats, introduced, maps, reflexive};

#[test]
fn silence_ends_after_four_seconds() {
    let (mut rig, first) = Rig::dialling(Role::Controlling);
    rig.run_to(3_999);
    assert_eq!(rig.agent.poll_event(), None);
    rig.run_to(4_001);
    let report = rig.report();
    assert_eq!(report.verdict, Verdict::Silent);
    assert!(
        report
            .pairs
            .iter()
            .all(|pair| pair.outcome == PairOutcome::Silent)
    );
    assert!(rig.actions().contains(&Action::Close { check: first }));
}

#[test]
fn an_attempt_is_left_alone_for_three_seconds_even_at_the_end() {
    let remote = [reflexive(PEER, P)];
    let mut rig = Rig::new(introduced(Role::Controlling, &[base(HERE, P)], &remote));
    let check = rig.connects()[0].0;
    rig.at(3_900).failed(check, ConnectFailure::Refused);
    rig.run_to(3_910);
    assert_eq!(rig.connects().len(), 1);
    rig.run_to(6_890);
    assert_eq!(rig.agent.poll_event(), None);
    rig.run_to(6_920);
    assert_eq!(rig.report().verdict, Verdict::Refused);
}

#[test]
fn who_takes_connections_at_ports_of_others_is_in_between() {
    let remote = [reflexive(PEER, P), reflexive("198.51.100.7:40009", P)];
    let verdict = |ports: usize| {
        let mut rig = Rig::new(introduced(Role::Controlling, &[base(HERE, P)], &remote));
        for ms in [0, 1000] {
            rig.run_to(ms);
            for (check, _, remote) in rig.connects() {
                if ports == 2 || remote == address(PEER) {
                    rig.connected(check);
                    rig.not_verified(check, VerifyFailure::Closed);
                }
            }
        }
        rig.run_to(20_000);
        rig.report().verdict
    };
    assert_eq!(verdict(2), Verdict::Intercepted);
    // That is some service which a router forwards.
    assert_eq!(verdict(1), Verdict::Mixed);
}

#[test]
fn giving_up_closes_everything_and_reports_once() {
    let (mut rig, check) = Rig::dialling(Role::Controlling);
    rig.at(500).give_up();
    rig.give_up();
    assert_eq!(rig.actions(), [Action::Close { check }]);
    assert_eq!(rig.report().verdict, Verdict::Silent);
    assert_eq!(
        (rig.agent.poll_event(), rig.agent.poll_timeout()),
        (None, None)
    );
}

#[test]
fn giving_up_a_won_race_does_nothing() {
    let (mut rig, check) = Rig::dialling(Role::Controlling);
    rig.at(80).connected(check);
    rig.at(160).verified(check);
    rig.actions();
    rig.agent.poll_event();
    rig.at(200).give_up();
    assert_eq!((rig.actions(), rig.agent.poll_event()), (vec![], None));
}

#[test]
fn a_varying_mapping_ends_the_round_early_and_is_named() {
    let varies = maps(NatMapping::AddressAndPortDependent);
    let keeps = maps(NatMapping::EndpointIndependent);
    let cases = [
        (
            varies,
            keeps,
            Verdict::LocalMappingVaries,
            "This side's NAT",
        ),
        (
            keeps,
            varies,
            Verdict::RemoteMappingVaries,
            "The peer's NAT",
        ),
        (varies, varies, Verdict::BothMappingsVary, "Both NATs"),
    ];
    for (local_nat, remote_nat, verdict, text) in cases {
        let mut introduced = behind_nats(Role::Controlling);
        (introduced.local_nat, introduced.remote_nat) = (local_nat, remote_nat);
        let mut rig = Rig::new(introduced);
        rig.run_to(2_499);
        assert_eq!(rig.agent.poll_event(), None);
        rig.run_to(2_501);
        let report = rig.report();
        assert_eq!(report.verdict, verdict);
        let sentence = report.to_string();
        assert!(sentence.starts_with(text), "{sentence}");
        assert!(
            sentence.contains("address-and-port-dependent mapping"),
            "{sentence}"
        );
    }
}

#[test]
fn ranges_that_are_filled_in_vain_are_given_up_soon() {
    let small = NatReport {
        ports: Some(PortAssignment::Random {
            first: 2048,
            last: 2303,
        }),
        filtering: Some(NatFiltering::AddressAndPortDependent),
        ..maps(NatMapping::AddressAndPortDependent)
    };
    let predicted = Candidate {
        kind: CandidateKind::Predicted,
        ..reflexive("198.51.100.7:2050", PunchPort::FRESH)
    };
    let bases = [base(HERE, P), base("192.168.1.2:10000", PunchPort::FRESH)];
    let remote = [reflexive(PEER, P), predicted];
    let mut introduced = introduced(Role::Controlling, &bases, &remote);
    (introduced.local_nat, introduced.remote_nat) = (small, small);
    let mut rig = Rig::new(introduced);
    rig.run_to(1_249);
    assert_eq!(rig.agent.poll_event(), None);
    assert!(rig.agent.stats().attempts > 256);
    rig.run_to(1_251);
    let report = rig.report();
    assert_eq!(report.verdict, Verdict::PortsExhausted);
    assert!(report.to_string().contains("in some minutes"), "{report}");
}

#[test]
fn what_is_learnt_of_the_own_nat_later_counts() {
    let (mut rig, _) = Rig::dialling(Role::Controlling);
    rig.at(3_000).learn(maps(NatMapping::AddressDependent));
    let report = rig.report();
    assert_eq!(report.verdict, Verdict::LocalMappingVaries);
    assert!(
        report.to_string().contains("(address-dependent mapping)"),
        "{report}"
    );
}

#[test]
fn an_open_connection_puts_off_the_end() {
    let mut introduced = behind_nats(Role::Controlled);
    introduced.remote_nat = maps(NatMapping::AddressAndPortDependent);
    let mut rig = Rig::new(introduced);
    rig.run_to(2_400);
    let check = rig.accepted("198.51.100.7:61234").unwrap();
    rig.run_to(2_700);
    assert_eq!(rig.agent.poll_event(), None);
    rig.verified(check);
    assert!(rig.agent.poll_event().is_some());
}

#[test]
fn another_identity_is_named_whatever_else_happened() {
    let (mut rig, check) = Rig::dialling(Role::Controlling);
    rig.at(80).connected(check);
    rig.at(160)
        .not_verified(check, VerifyFailure::WrongIdentity);
    rig.run_to(10_000);
    assert_eq!(rig.report().verdict, Verdict::WrongIdentity);
}

#[test]
fn what_is_withheld_is_no_attempt() {
    let remote = [reflexive(PEER, P)];
    let mut rig = Rig::new(introduced(Role::Controlling, &[base(HERE, P)], &remote));
    let check = rig.connects()[0].0;
    rig.at(20).failed(check, ConnectFailure::Withheld);
    let stats = rig.agent.stats();
    assert_eq!((stats.attempts, stats.redials), (0, 0));
    rig.run_to(200);
    let check = rig.connects()[0].0;
    rig.at(220).failed(check, ConnectFailure::Refused);
    rig.run_to(300);
    let check = rig.connects()[0].0;
    rig.at(320).failed(check, ConnectFailure::Withheld);
    let stats = rig.agent.stats();
    assert_eq!((stats.attempts, stats.redials), (1, 0));
    rig.give_up();
    let report = rig.report();
    assert_eq!(report.attempts(), 1);
    assert_eq!(report.verdict, Verdict::Withheld);
}

#[test]
fn the_report_counts_what_came_back() {
    let (mut rig, check) = Rig::dialling(Role::Controlling);
    rig.at(80).failed(check, ConnectFailure::Refused);
    rig.run_to(100);
    rig.give_up();
    let sentence = rig.report().to_string();
    assert!(
        sentence
            .ends_with("The last introduction had 2 attempts on 1 pair of addresses: 1 refused."),
        "{sentence}"
    );
}

#[test]
fn two_large_random_ranges_are_given_up_soon() {
    let nat = |(filtering, unsolicited)| NatReport {
        ports: Some(PortAssignment::Random {
            first: 1024,
            last: 65_535,
        }),
        filtering,
        unsolicited,
        ..maps(NatMapping::AddressAndPortDependent)
    };
    let strict = Some(NatFiltering::AddressAndPortDependent);
    let peer = [
        reflexive(PEER, P),
        Candidate {
            kind: CandidateKind::Predicted,
            ..reflexive("198.51.100.7:7000", PunchPort::FRESH)
        },
    ];
    let bases = [base(HERE, P), base("192.168.1.2:9000", PunchPort::FRESH)];
    let reset = Some(UnsolicitedSyn::Reset);
    let open = Some(NatFiltering::EndpointIndependent);
    for (known, learnt, until) in [
        ((strict, None), strict, 600),
        ((None, reset), None, 600),
        // What a NAT lets in is found out last.
        ((None, None), None, 1_250),
        ((None, None), open, 2_500),
    ] {
        let mut introduced = introduced(Role::Controlling, &bases, &peer);
        introduced.local_nat = nat(known);
        introduced.remote_nat = nat((strict, None));
        let mut rig = Rig::new(introduced);
        rig.learn(nat((learnt, known.1)));
        rig.run_to(until - 1);
        assert_eq!(rig.agent.poll_event(), None);
        rig.run_to(until + 1);
        let report = rig.report();
        assert_eq!(report.verdict, Verdict::BothMappingsVary);
        let sentence = report.to_string();
        assert!(
            sentence.contains("random ports from about 1024 to 65535"),
            "{sentence}"
        );
    }
}

#[test]
fn what_a_nat64_makes_impossible_is_given_up_as_soon() {
    let nat = NatReport {
        filtering: Some(NatFiltering::AddressAndPortDependent),
        ..maps(NatMapping::AddressAndPortDependent)
    };
    let peer = reflexive("[64:ff9b::198.51.100.7]:7000", P);
    for (is_translated, until) in [(true, 600), (false, 10_000)] {
        let bases = [base("[2001:db8::1]:9000", P)];
        let mut introduced = introduced(Role::Controlling, &bases, std::slice::from_ref(&peer));
        if is_translated {
            introduced.translated.insert(peer.address.ip());
        }
        (introduced.local_nat, introduced.remote_nat) = (nat, nat);
        let mut rig = Rig::new(introduced);
        rig.run_to(599);
        assert_eq!(rig.agent.poll_event(), None);
        rig.run_to(until + 1);
        assert_eq!(rig.report().nat64, is_translated);
    }
}

#[test]
fn peers_that_know_each_other_in_different_families_are_given_up_as_soon() {
    let here = [base("[2001:db8::1]:9000", P)];
    let there = [reflexive("[2001:db8:7::7]:7000", P)];
    for (role, families_apart, is_over) in [
        (Role::Controlling, true, true),
        (Role::Controlling, false, false),
        (Role::Controlled, true, false),
    ] {
        let mut rig = Rig::new(Introduced {
            families_apart,
            ..introduced(role, &here, &there)
        });
        rig.run_to(599);
        assert!(!rig.connects().is_empty(), "the peer may let anybody in");
        assert_eq!(rig.agent.poll_event(), None);
        rig.run_to(601);
        assert_eq!(rig.agent.poll_event().is_some(), is_over, "{role:?}");
    }
}

/// Returns when two peers give up, in milliseconds; the one that dials has a NAT that varies, and
/// nobody knows its ports.
fn gives_up_after(here: NatReport, there: NatReport) -> u128 {
    let mut introduced = behind_nats(Role::Controlling);
    introduced.local_nat = NatReport {
        mapping: Some(NatMapping::AddressAndPortDependent),
        ..here
    };
    introduced.remote_nat = there;
    let mut rig = Rig::new(introduced);
    let mut ms = 0;
    loop {
        ms += 100;
        rig.run_to(ms);
        if rig.agent.poll_event().is_some() {
            return rig.elapsed().as_millis();
        }
    }
}

#[test]
fn what_is_impossible_either_way_is_given_up_within_a_second() {
    let filters = |filtering| NatReport {
        filtering: Some(filtering),
        ..NatReport::default()
    };
    let turns_away = NatReport {
        unsolicited: Some(UnsolicitedSyn::Reset),
        ..NatReport::default()
    };
    let strict = filters(NatFiltering::AddressAndPortDependent);
    let by_address = filters(NatFiltering::AddressDependent);
    // Whom it lets in besides strangers makes no difference.
    assert_eq!(gives_up_after(turns_away, strict), 600);
    assert_eq!(gives_up_after(strict, strict), 600);
    let varies = NatReport {
        mapping: Some(NatMapping::AddressDependent),
        ..turns_away
    };
    assert_eq!(gives_up_after(turns_away, varies), 600);
    // It may let in whomever it has sent to, or everybody.
    assert_eq!(gives_up_after(strict, turns_away), 2_500);
    assert_eq!(gives_up_after(strict, by_address), 2_500);
    assert_eq!(gives_up_after(NatReport::default(), strict), 2_500);
}

#[test]
fn a_port_mapping_of_the_peer_is_no_proof_that_nothing_works() {
    let mut peer = reflexive(PEER, P);
    peer.kind = CandidateKind::Mapped;
    let mut introduced = introduced(Role::Controlling, &[base(HERE, P)], &[peer]);
    let strict = Some(NatFiltering::AddressAndPortDependent);
    introduced.local_nat = NatReport {
        filtering: strict,
        ..maps(NatMapping::AddressAndPortDependent)
    };
    introduced.remote_nat.filtering = strict;
    let mut rig = Rig::new(introduced);
    rig.run_to(2_400);
    assert_eq!(rig.agent.poll_event(), None);
}

#[test]
fn guessing_is_bounded() {
    let nat = NatReport {
        ports: Some(PortAssignment::Random {
            first: 1024,
            last: 65_535,
        }),
        ..maps(NatMapping::AddressAndPortDependent)
    };
    let bases = [base(HERE, P), base("192.168.1.2:9000", PunchPort::FRESH)];
    let mut introduced = introduced(Role::Controlling, &bases, &[reflexive(PEER, P)]);
    introduced.local_nat = nat;
    let mut rig = Rig::new(introduced);
    let mut live = rig.connects();
    for ms in 1..3_000 {
        rig.run_to(ms);
        for (check, _, _) in std::mem::replace(&mut live, rig.connects()) {
            rig.failed(check, ConnectFailure::Refused);
        }
    }
    assert!(rig.agent.stats().attempts > 1_280);
    assert!(rig.agent.stats().attempts <= 200 + 1_280);
}
