//! The agent between pairs of boxes, with exact times.

use std::time::Duration;

use netns_lab::puncher::{
    Established, Path, PunchOutcome, VirtualTimeError, virtual_time, virtual_time_with_log,
};
use netns_lab::{LinkSpec, NatSpec, PortRange, preset};

const MS: Duration = Duration::from_millis(1);

fn specs(preset: &str) -> Vec<NatSpec> {
    preset::find(preset).unwrap().specs()
}

fn punch(dialler: &str, listener: &str, seed: u64) -> PunchOutcome {
    let (dialler, listener) = (specs(dialler), specs(listener));
    virtual_time([&dialler, &listener], Path::default(), seed).unwrap()
}

fn connected(how: &str, after: Duration) -> PunchOutcome {
    let how = how.into();
    PunchOutcome {
        established: Some(Established { how, after }),
        failure: None,
        failed_after: None,
    }
}

/// The way by the server takes 42 ms, crossing SYNs 80 ms, and hello, reply and
/// nomination 120 ms.
#[test]
fn crossing_syns_take_one_and_a_half_round_trips_more_than_the_way_by_the_server() {
    for (dialler, listener) in [
        ("public", "public"),
        ("public", "linux-router"),
        ("linux-router", "linux-router"),
        ("openwrt", "linux-router"),
        ("openwrt", "openwrt"),
        ("cgnat-rfc6888", "home-behind-cgnat"),
        ("ipv6-cpe", "ipv6-cpe"),
    ] {
        let expected = connected("simultaneous-open", 242 * MS);
        let outcome = punch(dialler, listener, 1);
        assert_eq!(outcome, expected, "{dialler} dials {listener}");
    }
}

/// The dialler hears a SYN from a port that it did not expect, and its SYN-ACK
/// is answered 40 ms later than where SYNs cross.
#[test]
fn a_dialler_that_filters_nothing_accepts_what_comes_from_a_symmetric_nat() {
    let expected = connected("accepted", 282 * MS);
    assert_eq!(punch("public", "corporate-firewall", 1), expected);
    assert_eq!(punch("full-cone", "cgnat-strict", 1), expected);
}

/// Its SYN is answered by the listener's kernel after one round trip.
#[test]
fn a_dialler_behind_a_symmetric_nat_connects_to_a_listener_that_filters_nothing() {
    let expected = connected("connected", 242 * MS);
    assert_eq!(punch("corporate-firewall", "public", 1), expected);
}

#[test]
fn two_symmetric_nats_fail_and_the_agent_says_why() {
    let outcome = punch("corporate-firewall", "corporate-firewall", 1);
    assert_eq!(outcome.established, None);
    let failure = outcome.failure.unwrap();
    assert!(
        failure.contains("Both NATs use another external port"),
        "{failure}"
    );
}

#[test]
fn a_server_out_of_reach_is_a_failure_with_its_reason() {
    let down = LinkSpec::delay(20 * MS).loss(1.0);
    let path = Path {
        server: down,
        ..Path::default()
    };
    let outcome = virtual_time([&[], &[]], path, 1).unwrap();
    assert_eq!(outcome.established, None);
    let failure = outcome.failure.unwrap();
    assert_eq!(failure, "the server did not answer in time");
}

#[test]
fn lost_packets_delay_a_punch_but_each_run_is_the_same_again() {
    let path = Path {
        peer: LinkSpec::delay(20 * MS).loss(0.1),
        ..Path::default()
    };
    let chain = specs("linux-router");
    let run = |seed| virtual_time_with_log([&chain, &chain], path, seed).unwrap();
    let mut delayed = 0;
    for seed in 0..20 {
        let (outcome, log) = run(seed);
        assert_eq!(run(seed), (outcome.clone(), log), "seed {seed}");
        let late = |it: Established| it.after > 242 * MS;
        delayed += u32::from(outcome.established.is_some_and(late));
    }
    assert!(delayed > 0);
}

#[test]
fn a_box_that_contradicts_itself_is_refused() {
    let ports = PortRange { first: 9, last: 1 };
    let spec = NatSpec {
        port_range: ports,
        ..NatSpec::rfc5382()
    };
    let refused = virtual_time([&[], &[spec]], Path::default(), 1);
    assert!(
        matches!(refused, Err(VirtualTimeError::Box(_))),
        "{refused:?}"
    );
}
