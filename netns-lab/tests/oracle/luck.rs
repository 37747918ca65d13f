//! The formulas for many SYNs, against the port allocator of the model and against real TCP stacks.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use netns_lab::{
    Dependence, NatSpec, PortAssignment,
    oracle::{FILL, How, Outcome, SYNS, punchable},
    virtual_time::SocketId,
};

use crate::{puncher::PORT, stage::Stage};

/// Games that are played; the standard deviation of their mean is 0.025 at most.
const GAMES: u64 = 400;

/// Four standard deviations.
const TOLERANCE: f64 = 0.1;

/// The first of the ports that nothing has been sent from.
const FRESH: u16 = 10_000;

/// The lowest port that the boxes give out.
const LOWEST: u16 = 1024;

/// Games with real hosts, a thousand sockets each.
const PLAYED: u64 = 8;

/// Enough for the round trip of a punch, and not for a SYN that is repeated.
const LIMIT: Duration = Duration::from_millis(900);

fn symmetric(ports: PortAssignment) -> NatSpec {
    NatSpec {
        mapping: Dependence::AddressAndPortDependent,
        filtering: Dependence::AddressAndPortDependent,
        ports,
        ..NatSpec::rfc5382()
    }
}

fn in_block(size: u16) -> NatSpec {
    symmetric(PortAssignment::RandomInBlock { size })
}

fn keeping() -> NatSpec {
    NatSpec {
        filtering: Dependence::AddressAndPortDependent,
        ..NatSpec::rfc5382()
    }
}

/// Returns the ports that a host appears from when it dials each of these from a port of its own.
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

/// Returns the ports that one side guesses in a game: which they are does not matter where the
/// other's are random, so they are in a row.
fn guesses(first: u16, last: u16, seed: u64) -> impl Iterator<Item = u16> {
    let count = u64::from(last - first) + 1;
    (0..u64::from(SYNS)).map(move |nth| first + ((seed * 7919 + nth) % count) as u16)
}

#[test]
fn one_random_side_against_holes() {
    let random = symmetric(PortAssignment::Random);
    check(keeping(), random, |seed| {
        let holes: BTreeSet<u16> = guesses(LOWEST, u16::MAX, seed).collect();
        let to_home = (0..SYNS).map(|_| PORT);
        let ports = appears(random, seed, to_home);
        ports.iter().any(|port| holes.contains(port))
    });
}

/// One side has all of its range, the other only most of it: 3,200 of 4,000.
#[test]
fn a_range_that_is_too_large_to_be_filled() {
    let (large, small) = (in_block(4000), in_block(64));
    check(large, small, |seed| {
        let ports = appears(large, seed, (0..FILL).map(|_| PORT));
        let first = block_of(ports[0], 4000);
        let named = first + (seed * 7919 % 4000) as u16;
        ports.contains(&named)
    });
}

/// Returns the first port of the block of a host that appears from a port.
fn block_of(port: u16, size: u16) -> u16 {
    LOWEST + (port - LOWEST) / size * size
}

/// What a side sends in a game: from how many of its ports to which of the other's.
struct Volley {
    from: std::ops::Range<u16>,
    to: Vec<SocketAddr>,
}

/// Lets both sides send all their SYNs at once, and returns whether just one connection came of it.
fn play(mut stage: Stage, volleys: [Volley; 2]) -> bool {
    let mut attempts: [Vec<SocketId>; 2] = [Vec::new(), Vec::new()];
    for (side, volley) in volleys.into_iter().enumerate() {
        for own in volley.from {
            for remote in &volley.to {
                let (host, local) = (stage.host(side), stage.local(side, own));
                attempts[side].push(stage.world.connect(host, local, *remote).unwrap());
            }
        }
    }
    let limit = stage.world.now() + LIMIT;
    stage.world.run_until(limit, |_| false);
    let open = |attempts: &[SocketId]| {
        let is_open = |socket: &&SocketId| matches!(stage.world.opened(**socket), Ok(Some(_)));
        attempts.iter().filter(is_open).count()
    };
    [open(&attempts[0]), open(&attempts[1])] == [1, 1]
}

fn assert_filling(a: NatSpec, b: NatSpec) {
    let said = punchable(&[a], &[b]);
    let certain = matches!(
        said.outcome,
        Outcome::Certain {
            how: How::Filling,
            ..
        }
    );
    assert!(certain, "{said}");
}

/// Each side names a port that its connection to the server has not taken, and dials the other's
/// from all of its own.
#[test]
fn two_small_blocks_are_filled() {
    for (sizes, seed) in [[512, 512], [32, 512], [512, 64], [1024, 32]]
        .into_iter()
        .zip(0..)
        .flat_map(|(sizes, case)| (0..PLAYED).map(move |game| (sizes, case * PLAYED + game)))
    {
        let specs = sizes.map(in_block);
        assert_filling(specs[0], specs[1]);
        let chains = specs.map(|spec| [spec]);
        let mut stage = Stage::new([&chains[0], &chains[1]], seed);
        let named = [0, 1].map(|side| {
            let taken = stage.ask(side, PORT);
            let first = block_of(taken.port(), sizes[side]);
            let wanted = first + (seed * 7919 % u64::from(sizes[side])) as u16;
            let next = first + (wanted - first + 1) % sizes[side];
            let free = if wanted == taken.port() { next } else { wanted };
            SocketAddr::new(taken.ip(), free)
        });
        let volleys = [0, 1].map(|side| Volley {
            from: FRESH..FRESH + sizes[side],
            to: vec![named[1 - side]],
        });
        assert!(play(stage, volleys), "{sizes:?}, seed {seed}");
    }
}

/// The port that is kept needs no more than one SYN, however the other's mapping depends on it.
#[test]
fn a_port_that_is_kept_meets_a_small_block() {
    let (kept, block) = (symmetric(PortAssignment::Preserved), in_block(256));
    assert_filling(kept, block);
    for seed in 0..PLAYED {
        let mut stage = Stage::new([&[kept], &[block]], seed);
        let taken = stage.ask(1, PORT);
        let first = block_of(taken.port(), 256);
        let next = first + (taken.port() - first + 1) % 256;
        let kept = SocketAddr::new(stage.ask(0, PORT).ip(), FRESH);
        let volleys = [
            Volley {
                from: FRESH..FRESH + 1,
                to: vec![SocketAddr::new(taken.ip(), next)],
            },
            Volley {
                from: FRESH..FRESH + 256,
                to: vec![kept],
            },
        ];
        assert!(play(stage, volleys), "seed {seed}");
    }
}

/// A hole for every port of a small block lets the first SYN in.
#[test]
fn all_holes_of_a_small_block_are_opened() {
    let (home, block) = (keeping(), in_block(512));
    assert_filling(home, block);
    for seed in 0..PLAYED {
        let mut stage = Stage::new([&[home], &[block]], seed);
        let seen = [0, 1].map(|side| stage.ask(side, PORT));
        let first = block_of(seen[1].port(), 512);
        let ports = (first..first + 512).filter(|port| *port != seen[1].port());
        let volleys = [
            Volley {
                from: PORT..PORT + 1,
                to: ports.map(|port| (seen[1].ip(), port).into()).collect(),
            },
            Volley {
                from: FRESH..FRESH + 1,
                to: vec![seen[0]],
            },
        ];
        assert!(play(stage, volleys), "seed {seed}");
    }
}
