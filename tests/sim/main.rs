//! Two punch agents in virtual time, with NATs, loss and late starts.
//!
//! `P2PCONNECT_SIM_SEED=<number>` runs every scenario with that seed only.

#![expect(
    clippy::print_stdout,
    reason = "the table of medians is what this suite is read for"
)]

mod access;
mod nat;
mod packet;
mod peer;
mod tcp;
mod world;

use std::{collections::BTreeMap, ops::Range, time::Duration};

use p2pconnect_punch::Event;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    access::{Access, expected},
    world::{Outcome, Scenario, run},
};

/// 80 ms there and back, as in the namespaces.
const ONE_WAY: Duration = Duration::from_millis(40);

/// To a router at home.
const LAST_MILE: Duration = Duration::from_millis(1);

const SKEWS_US: [i64; 5] = [0, 5_000, -5_000, 60_000, -60_000];

#[test]
fn every_pair_connects_both_ways_round() {
    let mut medians = BTreeMap::new();
    for controlling in Access::PUNCHABLE {
        for controlled in Access::PUNCHABLE {
            for skew_us in SKEWS_US {
                let times = sweep(0..200, |seed| Scenario {
                    controlling,
                    controlled,
                    skew_us,
                    one_way: ONE_WAY,
                    last_mile: LAST_MILE,
                    detour: 1,
                    loss: 0,
                    seed,
                });
                medians.insert((controlling, controlled, skew_us), times);
            }
        }
    }
    print_table(&medians, 0);
    print_table(&medians, 60_000);
    print_table(&medians, -60_000);
}

#[test]
fn nothing_fails_when_one_packet_in_twenty_is_lost() {
    for controlling in Access::PUNCHABLE {
        for controlled in Access::PUNCHABLE {
            for skew_us in SKEWS_US {
                sweep(0..40, |seed| Scenario {
                    controlling,
                    controlled,
                    skew_us,
                    one_way: ONE_WAY,
                    last_mile: LAST_MILE,
                    detour: 1,
                    loss: 50,
                    seed,
                });
            }
        }
    }
}

#[test]
fn a_start_one_and_a_half_seconds_late_still_connects() {
    for controlling in Access::PUNCHABLE {
        for controlled in Access::PUNCHABLE {
            for skew_us in [1_500_000, -1_500_000] {
                sweep(0..20, |seed| Scenario {
                    controlling,
                    controlled,
                    skew_us,
                    one_way: ONE_WAY,
                    last_mile: LAST_MILE,
                    detour: 1,
                    loss: 0,
                    seed,
                });
            }
        }
    }
}

#[test]
fn any_path_with_any_lateness_connects() {
    for controlling in Access::PUNCHABLE {
        for controlled in Access::PUNCHABLE {
            sweep(0..100, |seed| {
                let mut rng = ChaCha8Rng::seed_from_u64(!seed);
                let one_way_us = rng.random_range(2_000..200_000);
                let range = i64::try_from(4 * one_way_us).expect("less than a second");
                Scenario {
                    controlling,
                    controlled,
                    skew_us: rng.random_range(-range..range),
                    one_way: Duration::from_micros(one_way_us),
                    last_mile: Duration::from_micros(one_way_us / rng.random_range(5..100)),
                    detour: rng.random_range(1..5),
                    loss: 0,
                    seed,
                }
            });
        }
    }
}

#[test]
fn a_port_for_each_destination_connects_to_whoever_does_not_filter_and_else_says_why() {
    let varies = Access::RandomPerDestination;
    for other in Access::PUNCHABLE.into_iter().chain([varies]) {
        for (controlling, controlled) in [(varies, other), (other, varies)] {
            for loss in [0, 50] {
                sweep(0..40, |seed| Scenario {
                    controlling,
                    controlled,
                    skew_us: 5_000,
                    one_way: ONE_WAY,
                    last_mile: LAST_MILE,
                    detour: 1,
                    loss,
                    seed,
                });
            }
        }
    }
}

/// Runs a scenario for each seed and returns when the later side was done, in order.
fn sweep(seeds: Range<u64>, scenario: impl Fn(u64) -> Scenario) -> Vec<Duration> {
    let wanted: Option<u64> = std::env::var("P2PCONNECT_SIM_SEED")
        .ok()
        .map(|seed| seed.parse().expect("P2PCONNECT_SIM_SEED is a number"));
    let seeds = wanted.map_or(seeds, |seed| seed..seed + 1);
    let mut times: Vec<_> = seeds.map(|seed| check(scenario(seed))).collect();
    times.sort();
    times
}

/// Compares a run with the oracle.
fn check(scenario: Scenario) -> Duration {
    let outcome = run(scenario);
    let again = format!(
        "P2PCONNECT_SIM_SEED={} {scenario:?}\n{outcome:#?}",
        scenario.seed
    );
    assert!(!outcome.again, "two outcomes: {again}");
    let views = [
        expected(scenario.controlling, scenario.controlled),
        expected(scenario.controlled, scenario.controlling),
    ];
    for ((event, _), expected) in outcome.ends.iter().zip(views) {
        match (event, expected) {
            (Event::Established { .. }, None) => assert!(outcome.agree, "different ends: {again}"),
            (Event::Failed(report), Some(verdict)) => {
                assert_eq!(report.verdict, verdict, "{again}");
                let text = report.to_string();
                assert!(
                    text.contains("address-and-port-dependent mapping"),
                    "{text}"
                );
            }
            (Event::Established { .. }, Some(_)) | (Event::Failed(_), None) => {
                panic!("expected {expected:?}: {again}")
            }
        }
    }
    let Outcome { ends, stats, .. } = outcome;
    for stats in stats {
        assert!(stats.attempts <= 200, "{again}");
    }
    ends[0].1.max(ends[1].1)
}

fn print_table(medians: &BTreeMap<(Access, Access, i64), Vec<Duration>>, skew_us: i64) {
    let later_ms = skew_us / 1000;
    println!("\nms until both sides hold the nominated connection: median / worst");
    println!(
        "(80 ms there and back; rows: controlling side; columns: controlled, {later_ms} ms later)"
    );
    print!("{:>12}", "");
    for access in Access::PUNCHABLE {
        print!("{:>13}", access.name());
    }
    println!();
    for controlling in Access::PUNCHABLE {
        print!("{:>12}", controlling.name());
        for controlled in Access::PUNCHABLE {
            let times = &medians[&(controlling, controlled, skew_us)];
            let median = times[times.len() / 2].as_millis();
            let worst = times[times.len() - 1].as_millis();
            print!("{:>13}", format!("{median} / {worst}"));
        }
        println!();
    }
}
