//! What a peer's own observations say about the NAT in front of it (RFC 5780 section 4).
//!
//! Pure: whoever has sockets asks the servers, and [`conclude`] draws the conclusions.

use std::{collections::BTreeSet, net::SocketAddr};

pub use p2pconnect_proto::{BackFrom, BackOutcome, ConnectBack};
use p2pconnect_proto::{NatFiltering, NatMapping, NatReport, PortAssignment, UnsolicitedSyn};
pub use range::SeenRange;

mod range;

/// How many new mappings must lie a constant step apart to be called sequential.
///
/// A random allocator shows four such ports once in some 65,000 times if it has a block of 256, the
/// smallest of carriers, and three such ports once in 550.
const MIN_SEQUENCE: usize = 4;

/// How many new mappings it takes to judge the range of a random allocator.
///
/// Of eight, the lowest and the highest are seven ninths of the range apart, on average; what is
/// added for the rest makes it half as large again.
pub const MIN_RANGE_SAMPLES: usize = 8;

/// Of how many steps in a row one may go back.
const BACKWARDS: usize = 12;

/// By how much ports that go one way may move on at each connection, on average: by so many
/// connections of others, for a NAT that counts. Behind one that is busier, the next port cannot be
/// predicted.
const BUSIEST: u32 = 32;

/// How far apart two ports of a row may be, the one looked at after the other: a minute of a busy
/// NAT's connections. What is further apart need not be of the same row.
const LONGEST_WAY: u16 = 4096;

/// The ports that NATs give out (RFC 4787 section 4.2.1 keeps the well-known ones apart).
const WHOLE_RANGE: (u16, u16) = (1024, u16::MAX);

/// What a server saw of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// The local address, not a wildcard, that the connection was made from.
    pub local: SocketAddr,
    /// The server's address.
    pub server: SocketAddr,
    /// The address that the server saw.
    pub mapped: SocketAddr,
}

/// Concludes how a NAT behaves from connections to servers, in the order in which they were made,
/// and from what became of connections back.
///
/// What the observations do not tell is `None`. Two ports of one server tell whether the port of a
/// destination matters, and two addresses whether the address does. With one destination the
/// mapping is known only if nothing was translated.
#[must_use]
pub fn conclude(observations: &[Observation], backs: &[ConnectBack]) -> NatReport {
    NatReport {
        mapping: mapping(observations),
        ports: ports(observations),
        filtering: filtering(backs),
        unsolicited: unsolicited(backs),
        hairpinning: None,
    }
}

/// Tells whether a report of these observations says no more of the range of a random allocator
/// than that it is not known well enough: more first connections from unused local ports would.
#[must_use]
pub fn wants_samples(observations: &[Observation]) -> bool {
    let varies = !matches!(
        mapping(observations),
        None | Some(NatMapping::EndpointIndependent)
    );
    let random = matches!(ports(observations), Some(PortAssignment::Random { .. }));
    varies && random && new_mappings(observations).len() < 2 * MIN_RANGE_SAMPLES
}

/// RFC 5780 section 4.3, on each local address.
///
/// A NAT that draws ports from a small block gives two destinations the same one now and then, so
/// that one local address with different mappings outweighs others.
fn mapping(observations: &[Observation]) -> Option<NatMapping> {
    let mut compared = false;
    let mut depends = None;
    for (index, one) in observations.iter().enumerate() {
        for other in &observations[index + 1..] {
            if one.local != other.local || one.server == other.server {
                continue;
            }
            compared = true;
            if one.mapped == other.mapped {
                continue;
            }
            // The stronger finding stays, whatever the order.
            depends = Some(if one.server.ip() == other.server.ip() {
                NatMapping::AddressAndPortDependent
            } else {
                depends.unwrap_or(NatMapping::AddressDependent)
            });
        }
    }
    let untranslated = observations.iter().any(|one| {
        let mut of_it = observations.iter().filter(|it| it.local == one.local);
        of_it.all(|seen| seen.mapped == seen.local)
    });
    let independent = (compared || untranslated).then_some(NatMapping::EndpointIndependent);
    depends.or(independent)
}

/// Returns the mapping if it differs from one destination to the next.
pub(crate) const fn mapping_varies(mapping: Option<NatMapping>) -> Option<NatMapping> {
    match mapping {
        Some(NatMapping::AddressDependent | NatMapping::AddressAndPortDependent) => mapping,
        Some(NatMapping::EndpointIndependent) | None => None,
    }
}

/// RFC 4787 section 4.2.
fn ports(observations: &[Observation]) -> Option<PortAssignment> {
    if observations.is_empty() {
        return None;
    }
    if are_preserved(observations) {
        return Some(PortAssignment::Preserved);
    }
    let ports = new_mappings(observations);
    if let Some(delta) = step_of_row(&ports) {
        return Some(PortAssignment::Sequential { delta });
    }
    // Fewer could still turn out to be sequential.
    (ports.len() >= MIN_SEQUENCE).then(|| {
        let seen = SeenRange::of(ports.iter().copied());
        let (first, last) = seen.map_or(WHOLE_RANGE, SeenRange::bounds);
        PortAssignment::Random { first, last }
    })
}

/// Tells whether the first connection from each local address kept its port. A further one may
/// have got another, as the mapping towards the first destination had the port already.
fn are_preserved(observations: &[Observation]) -> bool {
    let mut locals = BTreeSet::new();
    let mut first_of_each = observations.iter().filter(|seen| locals.insert(seen.local));
    first_of_each.all(|seen| seen.mapped.port() == seen.local.port())
}

/// Returns the ports of the mappings, each once, in the order in which they came into being.
fn new_mappings(observations: &[Observation]) -> Vec<u16> {
    let mut known = BTreeSet::new();
    observations
        .iter()
        .filter(|seen| known.insert(seen.mapped))
        .map(|seen| seen.mapped.port())
        .collect()
}

/// Returns by how much the ports move on, if they follow each other.
///
/// Whoever connects in between makes a step a multiple of what it is, so that the common measure of
/// all steps is the one that is looked for.
fn step_of_row(ports: &[u16]) -> Option<u16> {
    let steps: Vec<u16> = ports
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    if ports.len() < MIN_SEQUENCE {
        return None;
    }
    let step = most_common_step(ports, &steps).or_else(|| one_way(&steps))?;
    let measure = steps
        .iter()
        .fold(size(step), |measure, step| divisor(measure, size(*step)));
    Some(in_way_of(step, measure))
}

/// Returns the step of a row that was found to have this one, by a port of it and one that was
/// given out later.
///
/// Whoever connected each time in between, while it was found out, made it look like a multiple.
#[must_use]
pub fn finer_step(step: u16, earlier: u16, later: u16) -> u16 {
    let is_further = if is_upwards(step) {
        later > earlier
    } else {
        later < earlier
    };
    let way = later.abs_diff(earlier);
    // The row may have begun anew.
    if !is_further || way > LONGEST_WAY {
        return step;
    }
    in_way_of(step, divisor(size(step), way))
}

/// Returns the step from most of the ports to the next one, if it is nearly always the same.
///
/// Of many ports, half of the steps suffice: in between, somebody else behind the same NAT may have
/// connected, or a SYN was lost and repeated. Of few, chance would show that too often. And so it
/// would where the range is small, above all if a port in use leads to the next free one. So two
/// thirds of the ports have to follow each other by the same step in their own order as well, which
/// those of a repeated SYN do; and hardly a step may go back, which it does only at the end of a
/// range and after a port that came late.
fn most_common_step(ports: &[u16], steps: &[u16]) -> Option<u16> {
    let count = |delta: u16| steps.iter().filter(|step| **step == delta).count();
    let step = steps.iter().copied().max_by_key(|step| count(*step))?;
    let wanted = if ports.len() < MIN_RANGE_SAMPLES {
        steps.len()
    } else {
        steps.len().div_ceil(2)
    };
    let is_common = step != 0 && count(step) >= wanted;
    let follow = followers(ports, size(step)) * 3 >= steps.len() * 2;
    let backwards = against(is_upwards(step), steps);
    (is_common && follow && backwards <= steps.len().div_ceil(BACKWARDS)).then_some(step)
}

/// Returns the first step that goes the way of nearly all, if there are enough of them.
///
/// That is how a row looks while others behind the same NAT connect all the time. Eight ports that
/// are drawn at random go one way once in 20,160 times (two of 8!), and thirteen with one step back
/// once in 380,000 times.
fn one_way(steps: &[u16]) -> Option<u16> {
    if steps.len() + 1 < MIN_RANGE_SAMPLES {
        return None;
    }
    let goes_up = against(true, steps) <= against(false, steps);
    let mut ahead = steps
        .iter()
        .copied()
        .filter(|step| is_upwards(*step) == goes_up);
    // Steps are less than half of all ports, so that those of a large range would go round and
    // round one way.
    let way: u32 = ahead.clone().map(|step| u32::from(size(step))).sum();
    let is_near = way <= BUSIEST * u32::try_from(steps.len()).unwrap_or(u32::MAX);
    let is_row = is_near && against(goes_up, steps) <= steps.len() / BACKWARDS;
    ahead.next().filter(|_| is_row)
}

/// Returns how many steps go the other way.
fn against(goes_up: bool, steps: &[u16]) -> usize {
    let goes_back = |step: &&u16| is_upwards(**step) != goes_up;
    steps.iter().filter(goes_back).count()
}

const fn is_upwards(step: u16) -> bool {
    step.cast_signed() > 0
}

/// Returns a step of this size that goes the way of another one.
const fn in_way_of(step: u16, size: u16) -> u16 {
    if is_upwards(step) {
        size
    } else {
        size.wrapping_neg()
    }
}

/// Returns how far a step goes, whichever way.
const fn size(step: u16) -> u16 {
    step.cast_signed().unsigned_abs()
}

/// Returns how many of the ports are one step above another one, around the end of all ports too.
fn followers(ports: &[u16], step: u16) -> usize {
    let all: BTreeSet<u16> = ports.iter().copied().collect();
    let follows = |port: &&u16| {
        let before = port.wrapping_sub(step);
        // No other one lies in between.
        all.contains(&before) && (1..step).all(|nearer| !all.contains(&before.wrapping_add(nearer)))
    };
    all.iter().filter(follows).count()
}

/// Returns the greatest common divisor.
const fn divisor(mut one: u16, mut other: u16) -> u16 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// RFC 5780 section 4.4.
fn filtering(backs: &[ConnectBack]) -> Option<NatFiltering> {
    let arrived = |from| {
        let mut of_these = backs.iter().filter(|back| back.from == from).peekable();
        of_these.peek()?;
        Some(of_these.any(|back| back.outcome == BackOutcome::Connected))
    };
    match (
        arrived(BackFrom::OtherPort),
        arrived(BackFrom::OtherAddress),
    ) {
        (_, Some(true)) => Some(NatFiltering::EndpointIndependent),
        // Without another address to try, somebody there may get in as well. Plans for the
        // stricter of the two are good for both.
        (Some(true), Some(false) | None) => Some(NatFiltering::AddressDependent),
        (Some(false), _) => Some(NatFiltering::AddressAndPortDependent),
        (None, None | Some(false)) => None,
    }
}

fn unsolicited(backs: &[ConnectBack]) -> Option<UnsolicitedSyn> {
    let answer = |back: &ConnectBack| match back.outcome {
        BackOutcome::Connected => None,
        BackOutcome::Reset => Some(UnsolicitedSyn::Reset),
        BackOutcome::Icmp => Some(UnsolicitedSyn::Icmp),
        BackOutcome::Silent => Some(UnsolicitedSyn::Dropped),
    };
    let answers = || backs.iter().filter_map(answer);
    // Silence may also be a lost packet.
    let spoken = answers().find(|answer| *answer != UnsolicitedSyn::Dropped);
    spoken.or_else(|| answers().next())
}

#[cfg(test)]
mod tests {
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
            let back =
                |from, outcome: Option<_>| outcome.map(|outcome| ConnectBack { from, outcome });
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
}
