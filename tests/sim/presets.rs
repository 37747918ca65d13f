//! Dials between all pairs of presets, and of blocks of ports.
//!
//! A cell that differs is run again by `netns-lab explain A B --seed SEED`.

use netns_lab::matrix::{self, Kind, Options};
use netns_lab_cli::P2pconnect;
use p2pconnect_tests::blocks::{BLOCKS, nat};

use crate::sweep::{rounds, seeds};

/// Lets each kind dial each other, and holds every cell to the oracle.
fn hold_to_the_oracle(kinds: Vec<Kind>) {
    let options = Options {
        kinds,
        runs: rounds(),
        seed: seeds(1).start,
        max_ladders: 0,
        ..Options::default()
    };
    let matrix = matrix::run(&options, &P2pconnect, |_| {});
    let report = matrix
        .expect("the worlds are well-formed")
        .into_report(&options);
    println!("{}", report.summary());
    assert!(report.work_list().is_empty() && report.alarms().is_empty());
}

#[test]
fn no_pair_of_presets_is_missed() {
    hold_to_the_oracle(Options::default().kinds);
}

/// Two NATs that draw ports from blocks of any size that begin anywhere, as carriers give them to
/// their subscribers.
#[test]
fn blocks_that_begin_anywhere_meet_each_other() {
    let kind = |(number, block)| Kind {
        name: format!("block-{number}"),
        title: format!("{block:?}"),
        chain: vec![nat(block)],
    };
    hold_to_the_oracle((1..).zip(BLOCKS).map(kind).collect());
}
