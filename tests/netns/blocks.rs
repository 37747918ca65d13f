//! NATs of the kernel that draw ports from blocks that are neither a power of two nor aligned to one.
//!
//! `BLOCK_ROUNDS=20` makes fresh processes dial between all pairs of sizes, so many times each, instead of
//! between one pair.

use netns_lab::test;
use p2pconnect_tests::blocks::{BLOCKS, nat};

use crate::net::Net;

/// Returns how many rounds are asked for, if that is not the short way.
fn rounds() -> Option<usize> {
    std::env::var("BLOCK_ROUNDS").ok()?.parse().ok()
}

/// Filling a block leaves no port of it for some minutes, so each dial has a lab of its own.
fn dial(a: (u16, u16), b: (u16, u16), round: usize) {
    let net = Net::new(&[nat(a)], &[nat(b)]);
    let peer = net.id("b");
    let mut listener = net.listen("b");
    listener.wait_for("nat-found");
    net.dial_echo("a", &peer, &format!("round {round}, {a:?} to {b:?}"));
    net.finish();
}

#[test]
fn blocks_that_begin_anywhere_meet_each_other() {
    test(|| match rounds() {
        None => dial(BLOCKS[0], BLOCKS[0], 1),
        Some(rounds) => {
            for [a, b] in BLOCKS.into_iter().flat_map(|a| BLOCKS.map(|b| [a, b])) {
                for round in 1..=rounds {
                    dial(a, b, round);
                }
            }
        }
    });
}
