//! When an attempt is repeated.

use std::{collections::BTreeMap, time::Duration};

use p2pconnect_proto::Role;
use p2pconnect_punch::{Action, ConnectFailure, Verdict};

use crate::rig::{HERE, P, PEER, Rig, address, base, behind_nats, host, introduced, reflexive};

/// One pair only, so that whatever is dialled is a redial.
fn one_pair() -> Rig {
    let remote = [reflexive(PEER, P)];
    Rig::new(introduced(Role::Controlling, &[base(HERE, P)], &remote))
}

/// Fails every attempt 80 ms after it was made, and returns the pauses between them.
fn pauses(failure: ConnectFailure, count: usize) -> Vec<Duration> {
    let mut rig = one_pair();
    let mut clock = 0;
    let mut pauses = Vec::new();
    for _ in 0..count {
        let check = rig.connects()[0].0;
        clock += 80;
        rig.at(clock).failed(check, failure);
        let failed_at = rig.elapsed();
        while rig.agent.poll_timeout().is_some() {
            clock += 1;
            rig.run_to(clock);
            if rig.agent.stats().redials as usize > pauses.len() {
                break;
            }
        }
        pauses.push(rig.elapsed() - failed_at);
    }
    pauses
}

#[test]
fn a_refused_attempt_is_repeated_within_10_ms_and_later_within_40_ms() {
    let pauses = pauses(ConnectFailure::Refused, 30);
    let (quick, slow) = pauses.split_at(10);
    assert!(
        quick
            .iter()
            .all(|pause| *pause <= Duration::from_millis(11)),
        "{quick:?}"
    );
    let slow_range = Duration::from_millis(5)..=Duration::from_millis(41);
    assert!(
        slow.iter().all(|pause| slow_range.contains(pause)),
        "{slow:?}"
    );
}

/// Has every attempt refused at an address that stands for a public one, and returns how many there
/// were.
fn attempts_through_a_nat64(remote: &str) -> u32 {
    let peer = host(remote, P);
    let bases = [base("[2001:db8::1]:9000", P)];
    let mut introduced = introduced(Role::Controlling, &bases, std::slice::from_ref(&peer));
    introduced.translated.insert(peer.address.ip());
    let mut rig = Rig::new(introduced);
    let mut live = rig.connects();
    for ms in 1..8_000 {
        rig.run_to(ms);
        for (check, _, _) in std::mem::replace(&mut live, rig.connects()) {
            rig.failed(check, ConnectFailure::Refused);
        }
    }
    rig.agent.stats().attempts
}

#[test]
fn a_nat64_leads_outside_whatever_its_prefix() {
    let [known, local, unique] = [
        "[64:ff9b::198.51.100.7]:7000",
        "[64:ff9b:1::198.51.100.7]:7000",
        "[fd00:64::198.51.100.7]:7000",
    ]
    .map(attempts_through_a_nat64);
    assert_eq!([local, unique], [known; 2]);
}

#[test]
fn pauses_differ_from_one_to_the_next() {
    let mut pauses = pauses(ConnectFailure::Reset, 30);
    pauses.dedup();
    assert!(pauses.len() > 15, "{pauses:?}");
}

#[test]
fn after_icmp_the_pair_is_manned_again_at_once() {
    let mut rig = one_pair();
    let check = rig.connects()[0].0;
    rig.at(80).failed(check, ConnectFailure::HostUnreachable);
    assert_eq!(rig.connects().len(), 1);
}

#[test]
fn an_answer_of_this_machine_itself_does_not_spin() {
    let mut rig = one_pair();
    for _ in 0..300 {
        if let [(check, _, _)] = rig.connects()[..] {
            rig.failed(check, ConnectFailure::HostUnreachable);
        }
        let next = rig.agent.poll_timeout().unwrap();
        rig.run_to(u64::try_from(rig.elapsed().as_millis()).unwrap() + 1);
        assert!(rig.agent.poll_timeout().is_none_or(|after| after >= next));
    }
    assert!(rig.agent.stats().attempts < 40);
}

#[test]
fn no_more_syns_are_sent_than_allowed() {
    let mut rig = Rig::new(behind_nats(Role::Controlling));
    let mut live = rig.connects();
    for ms in 1..8_000 {
        rig.run_to(ms);
        for (check, _, _) in std::mem::replace(&mut live, rig.connects()) {
            rig.failed(check, ConnectFailure::Refused);
        }
    }
    assert!(rig.agent.stats().attempts <= 200);
    assert_eq!(rig.report().verdict, Verdict::Refused);
}

#[test]
fn a_pair_without_a_route_is_dialled_no_more() {
    let mut rig = one_pair();
    let check = rig.connects()[0].0;
    rig.failed(check, ConnectFailure::NetworkUnreachable);
    assert_eq!(rig.report().verdict, Verdict::Unreachable);
    assert_eq!(rig.agent.stats().attempts, 1);
}

#[test]
fn an_address_in_use_by_a_connection_is_looked_for_in_the_accept_queue() {
    let mut rig = one_pair();
    let check = rig.connects()[0].0;
    rig.at(40)
        .failed(check, ConnectFailure::AddressNotAvailable);
    rig.run_to(85);
    assert_eq!(rig.actions(), []);
    let check = rig.accepted(PEER).unwrap();
    assert_eq!(rig.actions(), [Action::Verify { check }]);
}

#[test]
fn an_empty_accept_queue_leads_to_a_redial() {
    let mut rig = one_pair();
    let check = rig.connects()[0].0;
    rig.at(40)
        .failed(check, ConnectFailure::AddressNotAvailable);
    rig.run_to(101);
    assert_eq!(rig.connects().len(), 1);
}

#[test]
fn an_accepted_connection_keeps_its_pair_from_being_dialled() {
    let mut rig = one_pair();
    let check = rig.connects()[0].0;
    rig.at(40).accepted(PEER).unwrap();
    rig.at(41)
        .failed(check, ConnectFailure::AddressNotAvailable);
    rig.run_to(2_000);
    assert_eq!(rig.connects(), []);
}

#[test]
fn a_stranger_in_our_own_network_gets_few_syns() {
    let remote = [host("192.168.1.9:5000", P), reflexive(PEER, P)];
    let mut rig = Rig::new(introduced(Role::Controlling, &[base(HERE, P)], &remote));
    let (mut live, mut to_stranger) = (Vec::new(), 0);
    for ms in 0..4_000 {
        rig.run_to(ms);
        for (check, _, remote) in std::mem::replace(&mut live, rig.connects()) {
            if remote == address("192.168.1.9:5000") {
                to_stranger += 1;
                rig.failed(check, ConnectFailure::Refused);
            }
        }
    }
    assert_eq!(to_stranger, 16);
}

/// Answers each attempt from the first port with this 80 ms later; returns when the first attempts
/// from or to the spare ports were made, in milliseconds.
fn first_hedges(failure: ConnectFailure) -> Vec<u64> {
    let mut rig = Rig::new(behind_nats(Role::Controlling));
    let (mut hedges, mut pending) = (BTreeMap::new(), Vec::new());
    for ms in 0..2_500 {
        rig.run_to(ms);
        let (due, later): (Vec<_>, _) = pending.into_iter().partition(|(at, _)| *at <= ms);
        pending = later;
        for (_, check) in due {
            rig.failed(check, failure);
        }
        for (check, local, remote) in rig.connects() {
            if (local, remote) == (address(HERE), address(PEER)) {
                pending.push((ms + 80, check));
            } else {
                hedges.entry((local, remote)).or_insert(ms);
            }
        }
    }
    let mut hedges: Vec<_> = hedges.into_values().collect();
    hedges.sort_unstable();
    hedges
}

#[test]
fn resets_on_the_first_port_do_not_hold_up_the_hedges() {
    let hedges = first_hedges(ConnectFailure::Refused);
    // One and a half round trips apart, and up to half of one later.
    assert!((120..=161).contains(&hedges[0]), "{hedges:?}");
    assert!((240..=281).contains(&hedges[1]), "{hedges:?}");
    assert!((360..=401).contains(&hedges[2]), "{hedges:?}");
}

#[test]
fn after_icmp_each_hedge_waits_longer_for_a_late_peer_than_the_one_before() {
    let hedges = first_hedges(ConnectFailure::HostUnreachable);
    assert!((220..=261).contains(&hedges[0]), "{hedges:?}");
    assert!((640..=681).contains(&hedges[1]), "{hedges:?}");
    assert!((1_960..=2_001).contains(&hedges[2]), "{hedges:?}");
}
