//! Tests of the conclusions that observations allow.

use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use super::*;

type Endpoint = ([u8; 4], u16);

const A1: Endpoint = ([198, 51, 100, 1], 3478);
const A2: Endpoint = ([198, 51, 100, 1], 3479);
const B1: Endpoint = ([198, 51, 100, 2], 3478);

fn seen(local_port: u16, server: Endpoint, mapped_port: u16) -> Observation {
    Observation {
        local: ([192, 168, 1, 2], local_port).into(),
        server: server.into(),
        mapped: ([203, 0, 113, 7], mapped_port).into(),
    }
}

/// First connections from as many local ports.
fn first_ones(mapped: &[u16]) -> Vec<Observation> {
    let locals = 40_000..;
    let pairs = locals.zip(mapped);
    pairs.map(|(local, port)| seen(local, A1, *port)).collect()
}

fn ports_of(mapped: &[u16]) -> Option<PortAssignment> {
    conclude(&first_ones(mapped), &[]).ports
}

#[test]
fn mappings_are_compared_by_port_and_by_address() {
    use NatMapping::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    for (observations, expected) in [
        (vec![], None),
        (vec![(A1, 5)], None),
        (vec![(A1, 5), (A1, 6)], None),
        (vec![(A1, 5), (A2, 5)], Some(EndpointIndependent)),
        (vec![(A1, 5), (A2, 6)], Some(AddressAndPortDependent)),
        (vec![(A1, 5), (B1, 6)], Some(AddressDependent)),
        (vec![(A1, 5), (A2, 5), (B1, 6)], Some(AddressDependent)),
        (
            vec![(B1, 7), (A1, 5), (A2, 6)],
            Some(AddressAndPortDependent),
        ),
    ] {
        let seen: Vec<_> = observations
            .iter()
            .map(|(server, mapped)| seen(40_000, *server, *mapped))
            .collect();
        assert_eq!(conclude(&seen, &[]).mapping, expected, "{observations:?}");
    }
}

#[test]
fn a_port_that_two_destinations_got_by_chance_is_outweighed() {
    let primary = [seen(40_000, A1, 5), seen(40_000, A2, 5)];
    let spare = [seen(40_001, A1, 7), seen(40_001, A2, 9)];
    let report = conclude(&[primary, spare].concat(), &[]);
    let expected = Some(NatMapping::AddressAndPortDependent);
    assert_eq!(report.mapping, expected);
}

#[test]
fn other_local_ports_say_nothing_about_the_mapping() {
    let spare = seen(40_001, A1, 7);
    let primary = [seen(40_000, A1, 5), seen(40_000, A2, 5)];
    let report = conclude(&[spare, primary[0], primary[1]], &[]);
    assert_eq!(report.mapping, Some(NatMapping::EndpointIndependent));
}

#[test]
fn an_untranslated_address_needs_no_second_opinion() {
    let local = ([203, 0, 113, 7], 40_000).into();
    let server = A1.into();
    let mapped = local;
    let observation = Observation {
        local,
        server,
        mapped,
    };
    let report = NatReport {
        mapping: Some(NatMapping::EndpointIndependent),
        ports: Some(PortAssignment::Preserved),
        ..NatReport::default()
    };
    assert_eq!(conclude(&[observation], &[]), report);
}

#[test]
fn ports_are_preserved_if_the_first_of_each_local_port_is() {
    let preserved = Some(PortAssignment::Preserved);
    assert_eq!(conclude(&[], &[]).ports, None);
    let first = seen(40_000, A1, 40_000);
    assert_eq!(conclude(&[first], &[]).ports, preserved);
    assert_eq!(
        conclude(&[first, seen(40_000, A2, 9)], &[]).ports,
        preserved
    );
    assert_eq!(conclude(&[seen(40_000, A1, 40_001)], &[]).ports, None);
}

#[test]
fn a_constant_step_is_sequential() {
    let sequential = |delta| Some(PortAssignment::Sequential { delta });
    assert_eq!(ports_of(&[5000, 5001, 5002, 5003]), sequential(1));
    assert_eq!(ports_of(&[65_534, 65_535, 0, 1]), sequential(1));
    assert_eq!(ports_of(&[5000, 4998, 4996, 4994]), sequential(65_534));
    assert_eq!(ports_of(&[5000, 5001, 5002]), None);
    // Others connect as well, and a lost SYN comes late.
    let busy = [5000, 5001, 5002, 5004, 5005, 5009, 5010, 5011, 5012];
    assert_eq!(ports_of(&busy), sequential(1));
    let late = [5000, 5001, 5002, 5003, 5012, 5004, 5005, 5006, 5007, 5008];
    assert_eq!(ports_of(&late), sequential(1));
    assert_ne!(ports_of(&busy[..6]), sequential(1));
    let shared = [5000, 5002, 5004, 5005, 5007, 5009, 5011, 5013];
    assert_eq!(ports_of(&shared), sequential(1));
    let downwards = [5009, 5003, 5006, 5000, 4997, 4994, 4991, 4988, 4985];
    assert_eq!(ports_of(&downwards), sequential(65_533));
    // Others connect all the time.
    let crowded = [5000, 5001, 5003, 5009, 5012, 5013, 5019, 5030];
    assert_eq!(ports_of(&crowded), sequential(1));
    assert_ne!(ports_of(&crowded[1..]), sequential(1));
    let by_fours = crowded.map(|port| u16::MAX - 4 * port);
    assert_eq!(ports_of(&by_fours), sequential(65_532));
    let seen = [
        23_999, 24_002, 24_003, 24_010, 24_012, 24_013, 24_020, 24_031, 24_050, 24_049, 24_060,
        24_071, 24_091,
    ];
    assert_eq!(ports_of(&seen), sequential(1));
    // Far too many do, or the ports go round a large range.
    let far = crowded.map(|port| (port - 5000) * 100 + 5000);
    assert_ne!(ports_of(&far), sequential(100));
    let round: Vec<u16> = (0..13).map(|n: u16| n.wrapping_mul(20_000 + n)).collect();
    assert!(matches!(
        ports_of(&round),
        Some(PortAssignment::Random { .. })
    ));
    // A mapping that is used again is no step.
    let mut seen = first_ones(&[5000, 5002, 5004, 5006]);
    seen.insert(1, seen[0]);
    assert_eq!(conclude(&seen, &[]).ports, sequential(2));
}

/// Draws ports of 32, of which 6 are in use already; one that is in use is drawn again, or
/// leads to the next free one, as in Linux.
fn drawn(random: &mut ChaCha8Rng, count: usize, next_free: bool) -> Vec<u16> {
    let mut drawn = Vec::new();
    while drawn.len() < 6 + count {
        let mut port = random.random_range(0..32);
        while next_free && drawn.contains(&(2048 + port)) {
            port = (port + 1) % 32;
        }
        if !drawn.contains(&(2048 + port)) {
            drawn.push(2048 + port);
        }
    }
    drawn.split_off(6)
}

#[test]
fn chance_hardly_makes_a_sequence_of_a_small_range() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for count in [8, 9, 11, 13] {
        for next_free in [false, true] {
            let draws = (0..20_000).filter(|_| {
                let drawn = drawn(&mut random, count, next_free);
                matches!(ports_of(&drawn), Some(PortAssignment::Sequential { .. }))
            });
            let found = draws.count();
            assert!(
                found <= 10,
                "{found} of 20,000 times, {count} ports, {next_free}"
            );
        }
    }
}

#[test]
fn chance_hardly_makes_a_sequence_of_a_block() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for (count, size) in [
        (3, 256),
        (4, 256),
        (8, 64),
        (8, 400),
        (9, 256),
        (13, 64),
        (13, 256),
        (13, 400),
    ] {
        let draws = (0..20_000).filter(|_| {
            let mut block: Vec<u16> = (24_000..24_000 + size).collect();
            let (drawn, _) = block.partial_shuffle(&mut random, count);
            matches!(ports_of(drawn), Some(PortAssignment::Sequential { .. }))
        });
        let found = draws.count();
        assert!(
            found <= 10,
            "{found} of 20,000 times, {count} ports of {size}"
        );
    }
}

#[test]
fn the_range_is_judged_by_enough_samples() {
    let random = |(first, last)| Some(PortAssignment::Random { first, last });
    let block = [2049, 2300, 2200, 2111, 2077, 2101, 2290, 2303];
    let seen = SeenRange::of(block).map(SeenRange::bounds);
    assert_eq!(ports_of(&block), seen.and_then(random));
    assert_eq!(ports_of(&block[..7]), random(WHOLE_RANGE));
}

#[test]
fn samples_are_wanted_of_varying_random_ports_only() {
    let varying = [
        seen(1, A1, 7000),
        seen(1, A2, 9),
        seen(1, B1, 3000),
        seen(2, A1, 500),
    ];
    assert!(wants_samples(&varying));
    let stable = [seen(1, A1, 7000), seen(1, A2, 7000), seen(2, A1, 3000)];
    assert!(!wants_samples(&stable));
    let sequential = [
        seen(1, A1, 7000),
        seen(1, A2, 7001),
        seen(1, B1, 7002),
        seen(2, A1, 7003),
    ];
    assert!(!wants_samples(&sequential));
}

#[test]
fn connections_back_tell_the_filtering_and_the_answer() {
    use BackOutcome::{Connected, Icmp, Reset, Silent};
    use NatFiltering::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    use UnsolicitedSyn::Dropped;
    for (port, address, filtering, answer) in [
        (None, None, None, None),
        (Some(Connected), None, Some(AddressDependent), None),
        (
            Some(Connected),
            Some(Connected),
            Some(EndpointIndependent),
            None,
        ),
        (None, Some(Silent), None, Some(Dropped)),
        (
            Some(Connected),
            Some(Silent),
            Some(AddressDependent),
            Some(Dropped),
        ),
        (
            Some(Reset),
            None,
            Some(AddressAndPortDependent),
            Some(UnsolicitedSyn::Reset),
        ),
        // The first SYN was lost.
        (
            Some(Silent),
            Some(Icmp),
            Some(AddressAndPortDependent),
            Some(UnsolicitedSyn::Icmp),
        ),
    ] {
        let back = |from, outcome: Option<_>| outcome.map(|outcome| ConnectBack { from, outcome });
        let backs = [
            back(BackFrom::OtherPort, port),
            back(BackFrom::OtherAddress, address),
        ];
        let backs: Vec<_> = backs.into_iter().flatten().collect();
        let report = conclude(&[], &backs);
        assert_eq!(
            (report.filtering, report.unsolicited),
            (filtering, answer),
            "{backs:?}"
        );
    }
}
