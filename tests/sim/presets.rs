//! The agent between all pairs of presets.

use netns_lab::oracle::{Outcome, punchable};
use netns_lab::preset;
use netns_lab::puncher::{Path, Trial, trial};
use p2pconnect_punch::Event;

use crate::expected::plain;
use crate::sweep::{in_parallel, seeds};

const RUNS: u64 = 20;

/// What the oracle and the agent say of a pair.
struct Pair {
    names: [&'static str; 2],
    oracle: Outcome,
    plain: bool,
    /// The seeds with which no connection came about.
    missed: Vec<u64>,
}

#[test]
fn no_preset_is_missed_that_reflected_endpoints_suffice_for() {
    let all = preset::all();
    let pairs: Vec<_> = all
        .iter()
        .flat_map(|a| all.iter().map(move |b| (a, b)))
        .collect();
    let pairs = in_parallel(&pairs, |(a, b)| {
        let (from, to) = (a.specs(), b.specs());
        let connects = |seed: &u64| {
            let what = Trial::new([&from, &to], Path::default(), *seed);
            let outcome = trial(&what)
                .unwrap_or_else(|e| panic!("{e}: {} dials {}, seed {seed}", a.name, b.name));
            let established = |side| matches!(side, &Event::Established { .. });
            let both = outcome.sides.iter().all(|side| established(&side.event));
            assert_eq!(both, outcome.same_connection, "{outcome:#?}");
            both
        };
        Pair {
            names: [a.name, b.name],
            oracle: punchable(&from, &to).outcome,
            plain: plain(&from, &to),
            missed: seeds(0..RUNS).filter(|seed| !connects(seed)).collect(),
        }
    });
    println!("What the agent misses, of {RUNS} seeds; the work list:");
    for pair in pairs.iter().filter(|pair| !pair.missed.is_empty()) {
        let Pair {
            names,
            oracle,
            missed,
            ..
        } = pair;
        let [from, to] = names;
        println!("{from} dials {to}: {} missed; {oracle}", missed.len());
    }
    let wrong: Vec<_> = pairs
        .iter()
        .filter(|pair| pair.plain && !pair.missed.is_empty())
        .map(|pair| (pair.names, pair.oracle, &pair.missed))
        .collect();
    assert!(
        wrong.is_empty(),
        "replay with P2PCONNECT_SIM_SEED: {wrong:#?}"
    );
}
