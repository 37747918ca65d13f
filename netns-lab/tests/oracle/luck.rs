//! The formulas for luck, against the port allocator of the model.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use netns_lab::oracle::{Outcome, SYNS, punchable};
use netns_lab::{Dependence, NatSpec, PortAssignment};

use crate::puncher::PORT;
use crate::stage::Stage;

/// Games that are played; the standard deviation of their mean is 0.025 at most.
const GAMES: u64 = 400;

/// Four standard deviations.
const TOLERANCE: f64 = 0.1;

fn symmetric(ports: PortAssignment) -> NatSpec {
    NatSpec {
        mapping: Dependence::AddressAndPortDependent,
        filtering: Dependence::AddressAndPortDependent,
        ports,
        ..NatSpec::rfc5382()
    }
}

/// Returns the ports that a host appears from when it dials each of these from
/// a port of its own.
fn appears(spec: NatSpec, seed: u64, targets: impl Iterator<Item = u16>) -> Vec<u16> {
    let chain = [spec];
    let mut stage = Stage::new([&chain, &[]], seed);
    let peer = stage.local(1, 0).ip();
    let dial = |(own, target)| {
        let remote = SocketAddr::new(peer, target);
        stage.appear(0, PORT + own, remote).port()
    };
    (0..).zip(targets).map(dial).collect()
}

fn check(a: NatSpec, b: NatSpec, won: impl Fn(u64) -> bool) {
    let said = punchable(&[a], &[b]);
    let Outcome::Chance { probability, .. } = said.outcome else {
        panic!("{said}");
    };
    let won = (0..GAMES).filter(|seed| won(*seed)).count() as f64;
    let measured = won / GAMES as f64;
    let difference = (measured - probability).abs();
    assert!(difference < TOLERANCE, "{measured} but {said}");
}

/// Returns the ports that one side bets on in a game: what to bet does not
/// matter where the other's are random, so they are in a row.
fn bets(first: u16, last: u16, seed: u64) -> impl Iterator<Item = u16> {
    let count = u64::from(last - first) + 1;
    (0..u64::from(SYNS)).map(move |bet| first + ((seed * 7919 + bet) % count) as u16)
}

#[test]
fn one_random_side_against_holes() {
    let home = NatSpec {
        filtering: Dependence::AddressAndPortDependent,
        ..NatSpec::rfc5382()
    };
    let random = symmetric(PortAssignment::Random);
    check(home, random, |seed| {
        let holes: BTreeSet<u16> = bets(1024, u16::MAX, seed).collect();
        let to_home = (0..SYNS).map(|_| PORT);
        let ports = appears(random, seed, to_home);
        ports.iter().any(|port| holes.contains(port))
    });
}

#[test]
fn two_random_sides_in_small_blocks() {
    let block = symmetric(PortAssignment::RandomInBlock { size: 512 });
    // The first block of the range; whose it is does not matter.
    let rounded = |port: u16| 1024 + (port - 1024) % 512;
    check(block, block, |seed| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut guesses = || (0..SYNS).map(|_| random.random_range(1024..1536)).collect();
        let (of_a, of_b): (Vec<u16>, Vec<u16>) = (guesses(), guesses());
        let side = |seed: u64, targets: &[u16]| -> BTreeSet<(u16, u16)> {
            let ports = appears(block, seed, targets.iter().copied());
            let ports = ports.into_iter().map(rounded);
            ports.zip(targets.iter().copied()).collect()
        };
        let from_a = side(seed, &of_a);
        let from_b = side(seed + GAMES, &of_b);
        from_b
            .iter()
            .any(|&(own, target)| from_a.contains(&(target, own)))
    });
}
