//! The boxes that netfilter can be, pair by pair of behaviours.

use netns_lab::{
    Dependence, Hairpinning, Limits, NatSpec, PortAssignment, SimultaneousOpen, Translation,
    UnsolicitedSyn,
};

const DEPENDENCES: [Dependence; 3] = [
    Dependence::EndpointIndependent,
    Dependence::AddressDependent,
    Dependence::AddressAndPortDependent,
];
const PORTS: [PortAssignment; 5] = [
    PortAssignment::PreservedWithOverload,
    PortAssignment::Preserved,
    PortAssignment::Sequential { delta: 3 },
    PortAssignment::Random,
    PortAssignment::RandomInBlock { size: 100 },
];
const ANSWERS: [UnsolicitedSyn; 4] = [
    UnsolicitedSyn::Nothing,
    UnsolicitedSyn::Rst,
    UnsolicitedSyn::IcmpProhibited,
    UnsolicitedSyn::IcmpPortUnreachable,
];
const CROSSINGS: [SimultaneousOpen; 3] = [
    SimultaneousOpen::Allowed,
    SimultaneousOpen::Dropped,
    SimultaneousOpen::Reset,
];

/// The number of choices of each behaviour: mapping, filtering, ports, answer, crossing SYNs,
/// hairpinning, pickup, translation.
const CHOICES: [usize; 8] = [3, 3, 5, 4, 3, 2, 2, 2];

type Choice = [usize; 8];

fn spec(
    [
        mapping,
        filtering,
        ports,
        answer,
        crossing,
        hairpin,
        pickup,
        none,
    ]: Choice,
) -> NatSpec {
    let ranged = NatSpec::port_preserving().port_range(20_000, 29_999);
    NatSpec {
        translation: [Translation::Nat44, Translation::None][none],
        mapping: DEPENDENCES[mapping],
        filtering: DEPENDENCES[filtering],
        ports: PORTS[ports],
        unsolicited: ANSWERS[answer],
        simultaneous_open: CROSSINGS[crossing],
        hairpinning: [Hairpinning::None, Hairpinning::ExternalSource][hairpin],
        pickup: pickup == 1,
        ..[NatSpec::port_preserving(), ranged][usize::from(ports > 0)]
    }
}

/// Whether netfilter can be it, and whether it is not another one in disguise.
fn is_possible([mapping, filtering, ports, _, _, hairpin, _, none]: Choice) -> bool {
    if none == 1 {
        // A firewall has neither mapping nor ports.
        return [mapping, ports, hairpin] == [0; 3];
    }
    let (overloads, hairpins) = (ports == 0, hairpin == 1);
    (!overloads || mapping == 0) && (!hairpins || filtering == 0)
}

fn possible() -> Vec<Choice> {
    let mut all = vec![[0; 8]];
    for (place, count) in CHOICES.iter().enumerate() {
        all = (0..*count)
            .flat_map(|value| {
                all.iter().map(move |choice| {
                    let mut choice = *choice;
                    choice[place] = value;
                    choice
                })
            })
            .collect();
    }
    all.retain(|choice| is_possible(*choice));
    all
}

fn pairs(choice: Choice) -> impl Iterator<Item = [(usize, usize); 2]> {
    (0..8).flat_map(move |one| {
        (one + 1..8).map(move |other| [(one, choice[one]), (other, choice[other])])
    })
}

/// Few boxes in which every possible pair of behaviours occurs.
pub(crate) fn pairwise() -> Vec<NatSpec> {
    let possible = possible();
    let mut left: std::collections::BTreeSet<_> =
        possible.iter().flat_map(|choice| pairs(*choice)).collect();
    let mut chosen = vec![];
    while !left.is_empty() {
        let gain = |choice: &&Choice| pairs(**choice).filter(|pair| left.contains(pair)).count();
        let best = *possible.iter().max_by_key(gain).unwrap();
        for pair in pairs(best) {
            left.remove(&pair);
        }
        chosen.push(spec(best));
    }
    chosen
}

/// The boxes that a script is run with.
pub(crate) fn for_script(name: &str) -> Vec<NatSpec> {
    if name == "echo" {
        return for_echoes();
    }
    let mut specs = pairwise();
    // What most peers sit behind, whatever pairs it has.
    specs.extend(ANSWERS.map(|answer| NatSpec::port_preserving().answering(answer)));
    if name == "destinations" {
        let limits = Limits {
            sessions: 2,
            ..Limits::GENEROUS
        };
        let limited = |nat| NatSpec { limits, ..nat };
        specs.extend([NatSpec::port_preserving(), NatSpec::firewall()].map(limited));
    }
    specs
}

/// Every way of choosing identifiers, and everything else that an echo meets.
fn for_echoes() -> Vec<NatSpec> {
    let nat = NatSpec::port_preserving().port_range(20_000, 29_999);
    let mut specs = PORTS.map(|ports| nat.ports(ports)).to_vec();
    specs.extend(DEPENDENCES.map(|filtering| nat.ports(PORTS[1]).filtering(filtering)));
    specs.extend(DEPENDENCES.map(|filtering| NatSpec::firewall().filtering(filtering)));
    specs.push(nat.ports(PORTS[3]).mapping(DEPENDENCES[2]));
    specs.push(nat.answering(ANSWERS[1]));
    specs.push(nat.drop_echo());
    specs
}

pub(crate) fn describe(nat: &NatSpec) -> String {
    format!(
        "{:?} mapping {:?} filtering {:?} ports {:?} unsolicited {:?} crossing {:?} hairpinning {:?} pickup {} drops echoes {}",
        nat.translation,
        nat.mapping,
        nat.filtering,
        nat.ports,
        nat.unsolicited,
        nat.simultaneous_open,
        nat.hairpinning,
        nat.pickup,
        nat.drop_echo
    )
}
