//! Two NATs that draw ports from blocks of any size that begin anywhere, as carriers give them to
//! their subscribers.
//!
//! `P2PCONNECT_SIM_BLOCKS=20` makes so many rounds of each pair instead of one.

use netns_lab::NatSpec;
use netns_lab::puncher::{Path, Trial, trial};
use p2pconnect_punch::Event;

use crate::sweep::{in_parallel, seeds};

/// Sizes and first ports of blocks. None is aligned to its size, or to a power of two that holds it;
/// that of 1,000 begins where Juniper's do.
const BLOCKS: [(u16, u16); 5] = [
    (256, 20_000),
    (400, 30_001),
    (1000, 1024),
    (2016, 20_001),
    (3000, 30_001),
];

const ROUNDS: u64 = 1;

fn nat((size, first): (u16, u16)) -> NatSpec {
    NatSpec::random_per_destination().port_range(first, first + (size - 1))
}

fn connects(blocks: [(u16, u16); 2], seed: u64) -> bool {
    let [a, b] = blocks.map(nat);
    let outcome = trial(&Trial::new([&[a], &[b]], Path::default(), seed))
        .unwrap_or_else(|error| panic!("{error}: {blocks:?}, seed {seed}"));
    let established = |side| matches!(side, &Event::Established { .. });
    outcome.same_connection && outcome.sides.iter().all(|side| established(&side.event))
}

#[test]
fn blocks_that_begin_anywhere_meet_each_other() {
    let rounds = std::env::var("P2PCONNECT_SIM_BLOCKS")
        .ok()
        .map(|rounds| rounds.parse().expect("P2PCONNECT_SIM_BLOCKS is a number"))
        .unwrap_or(ROUNDS);
    let pairs = BLOCKS.into_iter().flat_map(|a| BLOCKS.map(|b| [a, b]));
    let pairs: Vec<_> = pairs.collect();
    let missed = in_parallel(&pairs, |blocks| {
        let missed = seeds(0..rounds).filter(|seed| !connects(*blocks, *seed));
        (*blocks, missed.collect::<Vec<_>>())
    });
    for (blocks, seeds) in &missed {
        println!(
            "{blocks:?}: {} of {rounds} missed, seeds {seeds:?}",
            seeds.len()
        );
    }
    assert!(
        missed.iter().all(|(_, seeds)| seeds.is_empty()),
        "replay with P2PCONNECT_SIM_SEED"
    );
}
