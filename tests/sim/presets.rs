//! The agent between all pairs of presets.

use netns_lab::oracle::{Outcome, punchable};
use netns_lab::preset;
use netns_lab::puncher::{Path, Trial, trial};
use p2pconnect_punch::Event;

use crate::expected::connects;
use crate::sweep::{in_parallel, seeds};

const RUNS: u64 = 20;

/// Runs of a pair where it takes luck: a thousand sockets each.
const RUNS_OF_BETS: u64 = 2;

/// What the oracle and the agent say of a pair.
struct Pair {
    names: [&'static str; 2],
    oracle: Outcome,
    connects: bool,
    /// The seeds with which no connection came about.
    missed: Vec<u64>,
}

#[test]
fn no_pair_of_presets_is_missed() {
    let all = preset::all();
    let pairs: Vec<_> = all
        .iter()
        .flat_map(|a| all.iter().map(move |b| (a, b)))
        .collect();
    let pairs = in_parallel(&pairs, |(a, b)| {
        let (from, to) = (a.specs(), b.specs());
        let punches = |seed: &u64| {
            let what = Trial::new([&from, &to], Path::default(), *seed);
            let outcome = trial(&what)
                .unwrap_or_else(|e| panic!("{e}: {} dials {}, seed {seed}", a.name, b.name));
            let established = |side| matches!(side, &Event::Established { .. });
            let both = outcome.sides.iter().all(|side| established(&side.event));
            assert_eq!(both, outcome.same_connection, "{outcome:#?}");
            both
        };
        let oracle = punchable(&from, &to).outcome;
        let runs = match oracle {
            Outcome::Chance { .. } => RUNS_OF_BETS,
            _ => RUNS,
        };
        Pair {
            names: [a.name, b.name],
            oracle,
            connects: connects(&from, &to),
            missed: seeds(0..runs).filter(|seed| !punches(seed)).collect(),
        }
    });
    println!("What the agent misses, of {RUNS} seeds, or {RUNS_OF_BETS} where it takes luck:");
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
        .filter(|pair| pair.connects && !pair.missed.is_empty())
        .map(|pair| (pair.names, pair.oracle, &pair.missed))
        .collect();
    assert!(
        wrong.is_empty(),
        "replay with P2PCONNECT_SIM_SEED: {wrong:#?}"
    );
}
