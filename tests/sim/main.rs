//! Dials of p2pconnect in virtual time, with NATs, loss and late starts.
//!
//! Peers and server are as they are shipped, the hosts' TCP and the boxes are the lab's, and the
//! lab's oracle says what is expected of each pair. `P2PCONNECT_SIM_SEED=<number>` runs every
//! scenario with that seed only, `P2PCONNECT_SIM_ROUNDS=<number>` with so many times as many seeds.

#![expect(
    clippy::print_stdout,
    reason = "the tables and the work list are what this suite is read for"
)]

mod expected;
mod presets;
mod scenario;
mod sweep;

use std::time::Duration;

use p2pconnect_tests::kinds::{DROPS, Kind, RANDOM_PER_DESTINATION, RESETS, SENDS_ICMP};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    expected::{REFUSES_ALL, REFUSES_CROSSING, reflected},
    scenario::Scenario,
    sweep::{seeds, sweep},
};

const SKEWS_US: [i64; 5] = [0, 5_000, -5_000, 60_000, -60_000];

#[test]
fn every_pair_connects_both_ways_round() {
    for skew_us in SKEWS_US {
        let times = sweep_pairs(2, |scenario, _| Scenario {
            skew_us,
            ..scenario
        });
        print_table(&times, skew_us / 1000);
    }
}

#[test]
fn nothing_fails_when_one_packet_in_twenty_is_lost() {
    for skew_us in SKEWS_US {
        sweep_pairs(2, |scenario, _| Scenario {
            skew_us,
            loss: 0.05,
            ..scenario
        });
    }
}

#[test]
fn a_start_one_and_a_half_seconds_late_still_connects() {
    for skew_us in [1_500_000, -1_500_000] {
        sweep_pairs(2, |scenario, _| Scenario {
            skew_us,
            ..scenario
        });
    }
}

#[test]
fn any_path_with_any_lateness_connects() {
    sweep_pairs(4, |scenario, seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(!seed);
        let one_way_us = rng.random_range(2_000..200_000);
        let range = i64::try_from(4 * one_way_us).expect("less than a second");
        Scenario {
            skew_us: rng.random_range(-range..range),
            one_way: Duration::from_micros(one_way_us),
            last_mile: Duration::from_micros(one_way_us / rng.random_range(5..100)),
            detour: rng.random_range(1..5),
            ..scenario
        }
    });
}

#[test]
fn a_port_for_each_destination_connects_to_a_fixed_one_and_else_says_why() {
    let varies = RANDOM_PER_DESTINATION;
    let mut scenarios = Vec::new();
    for other in expected::all() {
        for (controlling, controlled) in [(varies, other), (other, varies)] {
            for loss in [0.0, 0.05] {
                scenarios.push(Scenario {
                    skew_us: 5_000,
                    loss,
                    ..Scenario::of(controlling, controlled)
                });
            }
        }
    }
    sweep(&scenarios, 2, |scenario, _| scenario);
}

/// Starts that differ by more than half a round trip: of two NATs that answer, one turns the first
/// SYN away. Where one NAT is silent instead, the order of the SYNs makes up for the difference.
#[test]
fn the_order_that_the_reports_ask_for_saves_redials() {
    let redials = |controlling, controlled, skew_us| -> u32 {
        let scenario = Scenario {
            skew_us,
            one_way: Duration::from_millis(5),
            last_mile: Duration::from_micros(500),
            // A server that is farther away than the peer.
            detour: 3,
            ..Scenario::of(controlling, controlled)
        };
        seeds(20).map(|seed| scenario.redials(seed)).sum()
    };
    // Whoever is behind the NAT that answers is the one who is late.
    for (other, skew_us) in [(RESETS, 7_500), (SENDS_ICMP, 7_500)] {
        assert_eq!(redials(DROPS, other, skew_us), 0, "{}", other.column);
        assert_eq!(redials(other, DROPS, -skew_us), 0, "{}", other.column);
        assert!(redials(other, other, skew_us) >= 20, "{}", other.column);
    }
}

/// The dials of both sides cross on three pairs of ports, and none of them works; on the last pair
/// only one side dials.
#[test]
fn where_nobody_takes_a_syn_for_a_syn_one_side_only_listens() {
    let mut scenarios = Vec::new();
    for one in REFUSES_CROSSING {
        for other in REFUSES_CROSSING.into_iter().chain([REFUSES_ALL]) {
            scenarios.push(Scenario::of(other, one));
            scenarios.push(Scenario::of(one, other));
        }
    }
    for skew_us in [0, 5_000, -5_000, 600_000, -600_000] {
        sweep(&scenarios, 2, |scenario, _| Scenario {
            skew_us,
            ..scenario
        });
    }
    let hopeless = Scenario::of(REFUSES_ALL, REFUSES_ALL);
    assert!(!expected::connects(
        hopeless.controlling.boxes,
        hopeless.controlled.boxes
    ));
}

/// Sweeps over all pairs that connect; the times are in the order of the pairs.
fn sweep_pairs(count: u64, vary: impl Fn(Scenario, u64) -> Scenario + Sync) -> Vec<Vec<Duration>> {
    let kinds = reflected();
    let pairs = kinds.iter().flat_map(|a| kinds.iter().map(|b| (*a, *b)));
    let scenarios: Vec<_> = pairs.map(|(a, b)| Scenario::of(a, b)).collect();
    sweep(&scenarios, count, vary)
}

fn print_table(times: &[Vec<Duration>], later_ms: i64) {
    let kinds = reflected();
    let short = |kind: &Kind| -> String { kind.column.chars().take(19).collect() };
    println!("\nms until the dial gives a connection: median / worst");
    println!(
        "(80 ms there and back, 40 ms to the server; rows: controlling side; columns: controlled, {later_ms} ms later)"
    );
    print!("{:>20}", "");
    for kind in &kinds {
        print!("{:>20}", short(kind));
    }
    for (kind, row) in kinds.iter().zip(times.chunks(kinds.len())) {
        print!("\n{:>20}", short(kind));
        for times in row {
            let median = times[times.len() / 2].as_millis();
            let worst = times[times.len() - 1].as_millis();
            print!("{:>20}", format!("{median} / {worst}"));
        }
    }
    println!();
}
