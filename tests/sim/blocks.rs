//! Two NATs that draw ports from blocks of any size that begin anywhere, as carriers give them to
//! their subscribers.
//!
//! `P2PCONNECT_SIM_BLOCKS=20` makes so many rounds of each pair instead of one.

use netns_lab::puncher::{Path, Trial, trial};
use p2pconnect_punch::Event;
use p2pconnect_tests::blocks::{BLOCKS, Block, nat};

use crate::sweep::{in_parallel, seeds};

const ROUNDS: u64 = 1;

fn connects(blocks: [Block; 2], seed: u64) -> bool {
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
