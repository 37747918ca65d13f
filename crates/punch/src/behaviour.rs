//! What a peer's own observations say about the NAT in front of it (RFC 5780 section 4).
//!
//! Pure: whoever has sockets asks the servers, and [`conclude`] draws the conclusions.

use std::{collections::BTreeSet, net::SocketAddr};

pub use p2pconnect_proto::{BackFrom, BackOutcome, ConnectBack};
use p2pconnect_proto::{NatFiltering, NatMapping, NatReport, PortAssignment, UnsolicitedSyn};
pub use range::SeenRange;

mod range;
#[cfg(test)]
mod tests;

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
