//! Dials between boxes of all behaviours, drawn at random.

use netns_lab::{
    Dependence, NatSpec, PortAssignment, RstEffect, SimultaneousOpen, UnsolicitedSyn,
    contender::Path,
    oracle::{Outcome, punchable},
};
use rand::{Rng, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::dial;

/// Says how many combinations a long run draws, and from which seed on.
const COUNT: &str = "NETNS_LAB_COMBINATIONS";
const FIRST: &str = "NETNS_LAB_SEED";

/// Enough to find what is wrong with one combination in fifty, in a few seconds.
const DEFAULT_COUNT: u64 = 150;

fn one_of<T: Copy>(of: &[T], random: &mut impl Rng) -> T {
    *of.choose(random).expect("there is a choice")
}

fn spec(random: &mut impl Rng) -> NatSpec {
    let dependence = [
        Dependence::EndpointIndependent,
        Dependence::AddressDependent,
        Dependence::AddressAndPortDependent,
    ];
    let ports = [
        PortAssignment::Preserved,
        PortAssignment::PreservedWithOverload,
        PortAssignment::Sequential { delta: 1 },
        PortAssignment::Sequential { delta: 2 },
        PortAssignment::RandomInBlock { size: 64 },
        PortAssignment::RandomInBlock { size: 256 },
    ];
    let answers = [
        UnsolicitedSyn::Nothing,
        UnsolicitedSyn::Rst,
        UnsolicitedSyn::IcmpProhibited,
        UnsolicitedSyn::IcmpPortUnreachable,
    ];
    let effects = [RstEffect::Closes, RstEffect::Ignored, RstEffect::Transitory];
    NatSpec {
        mapping: one_of(&dependence, random),
        filtering: one_of(&dependence, random),
        ports: one_of(&ports, random),
        unsolicited: one_of(&answers, random),
        rst: one_of(&effects, random),
        simultaneous_open: SimultaneousOpen::Allowed,
        ..NatSpec::rfc5382()
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

#[test]
fn whatever_the_oracle_is_certain_of_connects() {
    let first = number(FIRST).unwrap_or(0);
    let mut missed = Vec::new();
    let mut certain = 0;
    for seed in first..first + number(COUNT).unwrap_or(DEFAULT_COUNT) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let [a, b] = [spec(&mut random), spec(&mut random)];
        let chains: [&[NatSpec]; 2] = [&[a], &[b]];
        let punchability = punchable(chains[0], chains[1]);
        if !matches!(punchability.outcome, Outcome::Certain { .. }) {
            continue;
        }
        certain += 1;
        let (outcome, _) = dial(chains, Path::default(), seed);
        if let Some(failure) = outcome.failure {
            missed.push(format!(
                "seed {seed}: {punchability}\n{a:?}\n{b:?}\n{failure}"
            ));
        }
    }
    let count = missed.len();
    assert!(
        missed.is_empty(),
        "{count} of {certain} missed; {FIRST}=<seed> {COUNT}=1 runs one again:\n{}",
        missed.join("\n")
    );
}
