//! Which open connections are verified, and which one is nominated.

use p2pconnect_proto::{CandidateKind, NatMapping, NatReport, PortAssignment, PunchPort, Role};
use p2pconnect_punch::{Action, CheckId, Event, How, Input, Opened, VerifyFailure};

use crate::rig::{HERE, P, PEER, Rig, address, base, introduced, maps, reflexive};

fn verifies(rig: &mut Rig) -> Vec<CheckId> {
    let verify = |action| match action {
        Action::Verify { check } => Some(check),
        Action::Connect { .. } | Action::Close { .. } => None,
    };
    rig.actions().into_iter().filter_map(verify).collect()
}

#[test]
fn an_open_connection_is_verified_at_once_and_wins() {
    let (mut rig, check) = Rig::dialling(Role::Controlling);
    rig.at(80).connected(check);
    assert_eq!(rig.actions(), [Action::Verify { check }]);
    rig.at(160).verified(check);
    let event = rig.agent.poll_event();
    let how = How::SimultaneousOpen;
    assert!(
        matches!(event, Some(Event::Established { check: won, how: by, .. }) if won == check && by == how)
    );
    assert_eq!((rig.actions(), rig.agent.poll_timeout()), (vec![], None));
}

#[test]
fn a_connection_to_the_peers_listener_is_told_apart() {
    let (mut rig, check) = Rig::dialling(Role::Controlling);
    let opened = Opened::Actively;
    let now = std::time::Instant::now();
    rig.agent
        .handle_input(Input::Connected { check, opened }, now);
    rig.at(160).verified(check);
    let event = rig.agent.poll_event();
    assert!(matches!(
        event,
        Some(Event::Established {
            how: How::Connected,
            ..
        })
    ));
}

#[test]
fn a_peer_that_comes_from_an_unknown_port_is_peer_reflexive() {
    let (mut rig, _) = Rig::dialling(Role::Controlled);
    let check = rig.at(80).accepted("198.51.100.7:61234").unwrap();
    rig.at(160).verified(check);
    let Some(Event::Established { pair, how, .. }) = rig.agent.poll_event() else {
        panic!("not established");
    };
    assert_eq!(
        (pair.kind, how),
        (CandidateKind::PeerReflexive, How::Accepted)
    );
}

#[test]
fn when_one_connection_wins_all_others_are_closed() {
    let (mut rig, first) = Rig::dialling(Role::Controlled);
    rig.run_to(300);
    let live: Vec<_> = rig
        .connects()
        .into_iter()
        .map(|(check, _, _)| check)
        .collect();
    rig.at(300).connected(first);
    let second = rig.accepted(PEER).unwrap();
    rig.actions();
    rig.at(380).verified(second);
    let closed = rig.actions();
    assert_eq!(closed.len(), live.len() + 1);
    for check in live.into_iter().chain([first]) {
        assert!(closed.contains(&Action::Close { check }));
    }
}

#[test]
fn the_controlling_side_begins_a_second_verification_only_after_a_while() {
    let (mut rig, first) = Rig::dialling(Role::Controlling);
    rig.at(80).connected(first);
    let second = rig.accepted(PEER).unwrap();
    assert_eq!(verifies(&mut rig), [first]);
    rig.run_to(329);
    assert_eq!(verifies(&mut rig), []);
    rig.run_to(331);
    assert_eq!(verifies(&mut rig), [second]);
}

#[test]
fn a_failed_verification_makes_room_for_the_next_at_once() {
    let (mut rig, first) = Rig::dialling(Role::Controlling);
    rig.at(80).connected(first);
    let second = rig.accepted(PEER).unwrap();
    rig.actions();
    rig.at(120).not_verified(first, VerifyFailure::Stranger);
    assert_eq!(
        rig.actions(),
        [
            Action::Close { check: first },
            Action::Verify { check: second }
        ]
    );
    rig.at(200).verified(second);
    assert!(matches!(
        rig.agent.poll_event(),
        Some(Event::Established { .. })
    ));
}

#[test]
fn the_controlled_side_verifies_eight_at_a_time() {
    let (mut rig, _) = Rig::dialling(Role::Controlled);
    let accepted: Vec<_> = (0..12)
        .map(|n| {
            rig.at(80)
                .accepted(&format!("198.51.100.7:{}", 6000 + n))
                .unwrap()
        })
        .collect();
    assert_eq!(verifies(&mut rig), accepted[..8]);
    rig.not_verified(accepted[0], VerifyFailure::Closed);
    assert_eq!(verifies(&mut rig), [accepted[8]]);
}

/// A side whose ports are random, and its guesses on the port of a peer that turns out to listen.
fn guessing(role: Role) -> (Rig, Vec<CheckId>) {
    let fresh = base("192.168.1.2:10000", PunchPort::FRESH);
    let mut introduced = introduced(role, &[base(HERE, P), fresh], &[reflexive(PEER, P)]);
    introduced.local_nat = NatReport {
        ports: Some(PortAssignment::Random {
            first: 1024,
            last: 65_535,
        }),
        ..maps(NatMapping::AddressAndPortDependent)
    };
    introduced.remote_nat = maps(NatMapping::EndpointIndependent);
    let mut rig = Rig::new(introduced);
    rig.run_to(20);
    let guesses = rig.connects().into_iter();
    let guesses: Vec<_> = guesses
        .filter(|(_, local, _)| *local != address(HERE))
        .map(|(check, ..)| check)
        .collect();
    assert!(guesses.len() > 400);
    (rig, guesses)
}

fn connect_actively(rig: &mut Rig, check: CheckId) {
    let opened = Opened::Actively;
    let now = rig.now();
    rig.agent
        .handle_input(Input::Connected { check, opened }, now);
}

#[test]
fn the_controlled_side_keeps_all_guesses_for_the_dialler_to_choose_from() {
    let (mut rig, guesses) = guessing(Role::Controlled);
    rig.at(80);
    for check in &guesses {
        connect_actively(&mut rig, *check);
    }
    assert_eq!(verifies(&mut rig), guesses);
    // Others are bounded as ever.
    for n in 0..30 {
        rig.accepted(&format!("192.0.2.{n}:7000"));
    }
    assert_eq!(verifies(&mut rig).len(), 4);
    let chosen = guesses[guesses.len() - 1];
    rig.at(160).verified(chosen);
    assert!(matches!(
        rig.agent.poll_event(),
        Some(Event::Established { check, .. }) if check == chosen
    ));
}

#[test]
fn the_controlling_side_keeps_a_few_guesses_and_dials_no_more_of_those_that_break() {
    let (mut rig, guesses) = guessing(Role::Controlling);
    rig.at(80);
    for check in &guesses {
        connect_actively(&mut rig, *check);
    }
    let actions = rig.actions();
    let closed = |action: &&Action| matches!(action, Action::Close { .. });
    assert_eq!(actions.iter().filter(closed).count(), guesses.len() - 16);
    rig.at(90).not_verified(guesses[0], VerifyFailure::Closed);
    let attempts = rig.agent.stats().attempts;
    rig.run_to(120);
    assert_eq!(rig.agent.stats().attempts, attempts);
}

#[test]
fn strangers_never_keep_the_peer_waiting() {
    for role in [Role::Controlling, Role::Controlled] {
        let (mut rig, check) = Rig::dialling(role);
        let strangers = (0..30)
            .filter_map(|n| rig.at(50).accepted(&format!("192.0.2.{n}:7000")))
            .count();
        assert_eq!(strangers, 8);
        assert!(verifies(&mut rig).len() <= 4);
        rig.at(80).connected(check);
        assert_eq!(verifies(&mut rig), [check]);
    }
}

#[test]
fn a_verification_that_takes_too_long_is_ended() {
    // The controlled side waits for a nomination that is repeated a few times.
    for (role, limit) in [(Role::Controlling, 3_080), (Role::Controlled, 9_080)] {
        let (mut rig, check) = Rig::dialling(role);
        rig.at(80).connected(check);
        rig.actions();
        rig.run_to(limit - 1);
        assert!(!rig.actions().contains(&Action::Close { check }));
        rig.run_to(limit + 1);
        assert!(rig.actions().contains(&Action::Close { check }));
    }
}

#[test]
fn a_connection_that_is_used_is_kept_though_it_is_slow() {
    let (mut rig, check) = Rig::dialling(Role::Controlling);
    rig.at(80).connected(check);
    rig.at(81).used(check);
    rig.run_to(9_000);
    assert!(!rig.actions().contains(&Action::Close { check }));
    assert_eq!(rig.agent.poll_event(), None);
    rig.at(9_001).verified(check);
    let won = rig.agent.poll_event().unwrap();
    assert!(matches!(won, Event::Established { check: it, .. } if it == check));
}

#[test]
fn a_connection_that_is_used_holds_up_no_other() {
    let (mut rig, check) = Rig::dialling(Role::Controlling);
    rig.at(80).connected(check);
    rig.actions();
    rig.at(81).used(check);
    let other = rig.at(82).accepted(PEER).unwrap();
    assert_eq!(verifies(&mut rig), [other]);
    rig.at(83).verified(other);
    assert!(rig.actions().contains(&Action::Close { check }));
}

#[test]
fn a_connection_that_is_used_in_vain_ends_with_the_attempt() {
    let (mut rig, check) = Rig::dialling(Role::Controlling);
    rig.at(80).connected(check);
    rig.at(81).used(check);
    rig.run_to(20_000);
    assert!(rig.actions().contains(&Action::Close { check }));
    rig.report();
}

#[test]
fn a_connection_that_broke_is_made_again() {
    let (mut rig, check) = Rig::dialling(Role::Controlled);
    rig.at(80).connected(check);
    rig.at(120).not_verified(check, VerifyFailure::Closed);
    rig.run_to(135);
    let redials = rig.connects();
    assert_eq!(redials[0].2, address(PEER));
}

#[test]
fn a_late_connection_is_closed() {
    let (mut rig, first) = Rig::dialling(Role::Controlled);
    let second = rig.at(80).accepted(PEER).unwrap();
    rig.at(160).verified(second);
    rig.actions();
    rig.at(161).connected(first);
    assert_eq!(rig.actions(), [Action::Close { check: first }]);
    assert_eq!(rig.at(162).accepted(PEER), None);
}

#[test]
fn a_late_answer_for_a_closed_check_is_ignored() {
    let (mut rig, first) = Rig::dialling(Role::Controlled);
    let second = rig.at(80).accepted(PEER).unwrap();
    rig.at(160).verified(second);
    rig.actions();
    rig.at(161)
        .failed(first, p2pconnect_punch::ConnectFailure::Refused);
    rig.at(162).verified(first);
    rig.at(163).not_verified(second, VerifyFailure::Closed);
    assert_eq!((rig.actions(), rig.agent.stats().ignored), (vec![], 3));
}

#[test]
fn a_verification_nobody_asked_for_is_ignored() {
    let (mut rig, first) = Rig::dialling(Role::Controlling);
    rig.at(80).verified(first);
    assert_eq!(rig.agent.stats().ignored, 1);
}
