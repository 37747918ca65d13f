//! Pairs of boxes, with the times that a dial takes.

use std::time::Duration;

use netns_lab::{
    LinkSpec, NatSpec, PortRange,
    contender::{Path, PunchOutcome},
    matrix::{self, Kind, Options},
    preset,
};
use netns_lab_cli::P2pconnect;

use crate::dial;

const MS: Duration = Duration::from_millis(1);

/// Timers have a resolution of a millisecond.
const SLACK: Duration = MS.saturating_mul(2);

fn specs(preset: &str) -> Vec<NatSpec> {
    preset::find(preset).unwrap().specs()
}

fn punch(dialler: &str, listener: &str, seed: u64) -> PunchOutcome {
    let (dialler, listener) = (specs(dialler), specs(listener));
    dial([&dialler, &listener], Path::default(), seed).0
}

#[track_caller]
fn assert_connects(from: &str, to: &str, how: &str, least: Duration) {
    let outcome = punch(from, to, 1);
    let established = outcome.established.as_ref();
    let established = established.unwrap_or_else(|| panic!("{from} dials {to}: {outcome:?}"));
    assert_eq!(established.how, how, "{from} dials {to}");
    let after = established.after;
    assert!(
        (least..least + SLACK).contains(&after),
        "{from} dials {to}: {after:?}"
    );
}

/// The way by the server takes 42 ms, and crossing SYNs 80 ms. The handshake by way of the server
/// takes no longer.
#[test]
fn crossing_syns_take_a_round_trip_more_than_the_way_by_the_server() {
    for (dialler, listener) in [
        ("public", "public"),
        ("public", "linux-router"),
        ("linux-router", "linux-router"),
        ("openwrt", "linux-router"),
        ("openwrt", "openwrt"),
        ("cgnat-rfc6888", "home-behind-cgnat"),
        ("ipv6-cpe", "ipv6-cpe"),
    ] {
        assert_connects(dialler, listener, "simultaneous-open", 122 * MS);
    }
}

/// The dialler hears a SYN from a port that it did not expect, and its SYN-ACK is answered 40 ms
/// later than where SYNs cross.
#[test]
fn a_dialler_that_filters_nothing_accepts_what_comes_from_a_symmetric_nat() {
    assert_connects("public", "corporate-firewall", "accepted", 162 * MS);
    assert_connects("full-cone", "cgnat-strict", "accepted", 162 * MS);
}

/// Its SYN is answered by the listener's kernel after one round trip.
#[test]
fn a_dialler_behind_a_symmetric_nat_connects_to_a_listener_that_filters_nothing() {
    assert_connects("corporate-firewall", "public", "connected", 122 * MS);
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
    let path = Path {
        server: LinkSpec::delay(20 * MS).loss(1.0),
        ..Path::default()
    };
    let (outcome, _) = dial([&[], &[]], path, 1);
    assert_eq!(outcome.established, None);
    let failure = outcome.failure.unwrap();
    assert!(failure.contains("coordinator"), "{failure}");
}

#[test]
fn lost_packets_delay_a_punch_but_each_run_is_the_same_again() {
    let path = Path {
        peer: LinkSpec::delay(20 * MS).loss(0.1),
        ..Path::default()
    };
    let chain = specs("linux-router");
    let run = |seed| {
        let (outcome, log) = dial([&chain, &chain], path, seed);
        // What is encrypted differs, since TLS draws keys of its own; the text leaves it out.
        (outcome, log.to_string())
    };
    let mut delayed = 0;
    for seed in 0..20 {
        let (outcome, log) = run(seed);
        assert_eq!(run(seed), (outcome.clone(), log), "seed {seed}");
        let established = outcome.established;
        delayed += u32::from(established.is_some_and(|it| it.after > 122 * MS + SLACK));
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
    let kind = Kind {
        name: "odd".into(),
        title: String::new(),
        chain: vec![spec],
    };
    let options = Options {
        kinds: vec![kind],
        ..Options::default()
    };
    let refused = matrix::run(&options, &P2pconnect, |_| {}).unwrap_err();
    assert!(refused.to_string().contains("odd"), "{refused}");
}
