//! The same seed makes the same run, packet by packet, but for what is encrypted: the keys of TLS
//! are drawn by its library.

use std::thread;

use netns_lab_programs::is_repeatable;
use p2pconnect_tests::{kinds::ALL, virtual_ground::VirtualGround};

use crate::dials::dial;

/// How many seeds are run, each twice.
const SEEDS: u64 = 1000;

/// Runs a dial between NATs that the seed chooses, and returns what has happened in the world.
fn log(seed: u64) -> String {
    let kind = |n: u64| ALL[(n % ALL.len() as u64) as usize].boxes;
    let boxes = [kind(seed), kind(seed / ALL.len() as u64)];
    VirtualGround::run(seed, boxes, async |ground| {
        // Some pairs cannot connect, and have to fail alike.
        drop(dial(&ground).await);
        ground.programs.with(|world| world.log().to_string())
    })
}

#[test]
fn the_same_seed_makes_the_same_run() {
    assert!(
        is_repeatable(),
        "tokio has no seed: run tests by tests/run, or with RUSTFLAGS='--cfg tokio_unstable'"
    );
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (0..SEEDS).filter(|seed| seed % threads == thread) {
                    let [one, other] = [log(seed), log(seed)];
                    assert!(!one.is_empty(), "seed {seed}: nothing was logged");
                    for (one, other) in one.lines().zip(other.lines()) {
                        assert_eq!(one, other, "seed {seed}");
                    }
                    assert_eq!(one.len(), other.len(), "seed {seed}");
                }
            });
        }
    });
}
