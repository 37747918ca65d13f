//! Dials of one pair at the same moment, by processes that have the same key: what an editor, or git over
//! ssh, does. Where a port is guessed, their holes lie side by side.
//!
//! `TOGETHER_ROUNDS=100` makes each test run so many rounds instead of one.

use netns_lab::{NatSpec, test};

use crate::{
    net::{Boxes, Net},
    process::Process,
};

/// Starts so many dials at once, lets each send a message, and asserts that each gets its own back.
fn dial_together(a: Boxes<'_>, b: Boxes<'_>, count: usize) {
    let net = Net::new(a, b);
    let peer = net.id("b");
    // Makes the key that all dials share.
    net.id("a");
    let _listener = net.listen("b");
    let mut dials: Vec<_> = (0..count)
        .map(|_| Process::spawn(net.command("a", &["dial", "--json", &peer])))
        .collect();
    for (n, dial) in dials.iter_mut().enumerate() {
        dial.give(format!("stream {n}").as_bytes());
    }
    let ended: Vec<_> = dials.into_iter().map(Process::finish).collect();
    let failed: Vec<_> = ended
        .iter()
        .enumerate()
        .filter(|(n, it)| it.code() != 0 || it.stdout != format!("stream {n}").as_bytes())
        .map(|(n, it)| (n, it.code(), &it.stderr))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {count}: {failed:#?}",
        failed.len()
    );
    net.finish();
}

/// Returns how many rounds are asked for.
fn rounds() -> usize {
    let given = std::env::var("TOGETHER_ROUNDS").ok();
    given.and_then(|it| it.parse().ok()).unwrap_or(1)
}

fn repeated(a: NatSpec, b: NatSpec, count: usize) {
    test(move || {
        for _ in 0..rounds() {
            dial_together(&[a], &[b], count);
        }
    });
}

#[test]
fn two_from_behind_random_ports() {
    repeated(
        NatSpec::random_per_destination(),
        NatSpec::port_preserving(),
        2,
    );
}

#[test]
fn two_to_a_peer_behind_random_ports() {
    repeated(
        NatSpec::port_preserving(),
        NatSpec::random_per_destination(),
        2,
    );
}

#[test]
fn twelve_from_behind_random_ports() {
    repeated(
        NatSpec::random_per_destination(),
        NatSpec::port_preserving(),
        12,
    );
}

#[test]
fn twelve_to_a_peer_behind_random_ports() {
    repeated(
        NatSpec::port_preserving(),
        NatSpec::random_per_destination(),
        12,
    );
}
