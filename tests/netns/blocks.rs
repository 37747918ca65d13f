//! NATs of the kernel that draw ports from blocks that are neither a power of two nor aligned to
//! one.
//!
//! `BLOCK_ROUNDS=20` makes fresh processes dial between all pairs of sizes, so many times each,
//! instead of between one pair.

use std::time::Duration;

use netns_lab::TestRun;
use p2pconnect_tests::{
    blocks::{BLOCKS, Block, nat},
    net::Net,
    process::{Process, run},
};

/// How long one dial may take, with the lab that it has of its own: a dial gives up after 15 s.
const DIAL_LIMIT: Duration = Duration::from_secs(60);

/// Returns how many rounds are asked for, if that is not the short way.
fn rounds() -> Option<u32> {
    std::env::var("BLOCK_ROUNDS").ok()?.parse().ok()
}

/// Filling a block leaves no port of it for some minutes, so each dial has a lab of its own.
fn dial(a: Block, b: Block, round: u32) {
    let net = Net::new(&[nat(a)], &[nat(b)]);
    let peer = net.id("b");
    let mut listener = net.listen("b");
    listener.wait_for("nat-found");
    net.dial_echo("a", &peer, &format!("round {round}, {a:?} to {b:?}"));
    net.finish();
}

#[test]
fn blocks_that_begin_anywhere_meet_each_other() {
    let pairs: Vec<_> = match rounds() {
        None => vec![[BLOCKS[0]; 2]],
        Some(_) => BLOCKS
            .into_iter()
            .flat_map(|a| BLOCKS.map(|b| [a, b]))
            .collect(),
    };
    let rounds = rounds().unwrap_or(1);
    let limit = DIAL_LIMIT * (pairs.len() as u32) * rounds;
    TestRun::new().limit(limit).run(|| {
        for &[a, b] in &pairs {
            for round in 1..=rounds {
                dial(a, b, round);
            }
        }
    });
}

/// The NAT gives out all of its ports once more, as the peer names another one.
#[test]
fn a_range_that_was_used_up_in_vain_is_used_up_again() {
    TestRun::new().limit(DIAL_LIMIT).run(|| {
        let [.., large, _] = BLOCKS;
        let net = Net::new(&[nat(large)], &[nat(large)]);
        let peer = net.id("b");
        let mut listener = net.listen("b");
        listener.wait_for("nat-found");
        let mut dial = Process::spawn(net.command("a", &["dial", "--json", &peer]));
        let [rules, none] = ["add", "delete"].map(|it| format!("{it} table inet lost"));
        let chain = "add chain inet lost in { type filter hook input priority 0; }";
        let dialler = net.lab.host("a").external_ipv4();
        let rule = format!("add rule inet lost in ip saddr {dialler} tcp flags syn drop");
        let nft = |rules: &str| run(net.lab.host("b").command("nft").arg(rules));
        nft(&[&rules, chain, &rule].join("; "));
        dial.wait_for("punching");
        dial.wait_for("introduced");
        nft(&none);
        dial.give(b"said");
        let dialled = dial.finish();
        assert_eq!(dialled.code(), 0, "{:#?}", dialled.stderr);
        net.finish();
    });
}
