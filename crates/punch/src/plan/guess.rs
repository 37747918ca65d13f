//! Attempts to and from ports of which nobody can tell which will be the right ones.

use p2pconnect_proto::CandidateKind;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::{Addresses, Class, Planned, UNUSED_PORTS, paced};

/// The most SYNs that guessing begins with.
///
/// 640 holes for 640 connections among 64,512 ports meet in 99.8 %; 512 for 512 in 98.3 %.
pub(crate) const BATCH: u32 = 640;

/// How likely a batch is allowed to miss, if fewer SYNs than [`BATCH`] make it so.
///
/// It hits between four and five times then, on average. Each hit is a connection to verify, eight
/// at a time, and more would wait for one another; the second batch is there for what the first
/// one misses.
const MISS: f64 = 0.01;

/// The fewest connections of a batch: so many may be lost.
const LEAST: u32 = 4;

/// The same behind a NAT that has few ports, each of which it keeps for minutes: the peer has holes
/// for all of them, and a SYN that is lost is repeated.
const LEAST_OF_FEW: u32 = 1;

/// Opens holes from the fixed port to random ports of the peer's.
pub(super) fn open_holes(
    remote: Class,
    addresses: &Addresses<'_>,
    random: &mut ChaCha8Rng,
) -> Vec<Planned> {
    let (Some(local), Some(peer), Class::Random { first, last }) =
        (addresses.primary, addresses.predicted(), remote)
    else {
        return Vec::new();
    };
    let used = addresses.used_ports();
    // What is in use may differ from one round to the next, and must not change all that is drawn.
    let mut ports: Vec<u16> = (first.max(1)..=last).collect();
    let (drawn, _) = ports.partial_shuffle(random, BATCH as usize + used.len());
    let chosen = drawn.iter().rev().filter(|port| !used.contains(port));
    let chosen = chosen.take(BATCH as usize);
    let guess = |(n, port): (u32, &u16)| Planned {
        local,
        remote: (peer.ip(), *port).into(),
        kind: CandidateKind::Predicted,
        stage: 0,
        after: paced(n),
        is_guess: true,
    };
    (0..).zip(chosen).map(guess).collect()
}

/// Connects to the peer's fixed port from so many unused ones that one should meet a hole, and
/// later from as many others.
///
/// The ports are drawn anew each time: a NAT gives one that it has seen lately, with the same
/// destination, the port that missed before, and programs that dial at the same moment are not to
/// have the same ones.
pub(super) fn try_ports(
    local: Class,
    addresses: &Addresses<'_>,
    random: &mut ChaCha8Rng,
) -> Vec<Planned> {
    let (Some((remote, kind)), Some(unused)) = (addresses.target(), addresses.unused) else {
        return Vec::new();
    };
    let least = if local.is_scarce() {
        LEAST_OF_FEW
    } else {
        LEAST
    };
    let batch = tries(local.ports(), least);
    let mut ports: Vec<u16> = UNUSED_PORTS.collect();
    let (drawn, _) = ports.partial_shuffle(random, 2 * batch as usize);
    let guess = |(n, port): (u32, &u16)| Planned {
        local: (unused.ip(), *port).into(),
        remote,
        kind,
        stage: n / batch,
        after: paced(n % batch),
        is_guess: true,
    };
    (0..).zip(&*drawn).map(guess).collect()
}

/// Returns how many connections it takes to meet one of [`BATCH`] holes among so many ports.
fn tries(ports: u32, least: u32) -> u32 {
    let missed = 1.0 - f64::from(BATCH.min(ports)) / f64::from(ports);
    // A logarithm of 0 makes it 0.
    let wanted = (MISS.ln() / missed.ln()).ceil();
    (wanted as u32).clamp(least, BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_ranges_take_few_connections_and_large_ones_a_batch() {
        let tries = |ports| tries(ports, LEAST);
        assert_eq!((tries(1), tries(512), tries(640)), (4, 4, 4));
        assert_eq!((tries(1024), tries(2048)), (5, 13));
        assert_eq!((tries(64_512), tries(u32::MAX)), (462, BATCH));
    }
}
