//! Which external port a mapping gets.
//!
//! Linux's own `snat` keeps the port, or draws one that no seed decides. So all other ways are
//! spelled out as rules for the first packet of a connection. The first that applies decides: the
//! port that this internal endpoint has already; a port in the specification's way; some ports by a
//! seeded hash, each unless it is given out. What was given out is noted after the kernel's source
//! NAT, from the connection itself. Ports are given out apart for TCP and UDP.

use std::net::Ipv4Addr;

use p2pconnect_nat::{Dependence, NatSpec, PortAssignment, PortRange};

use super::{outgoing, timeout, when_it_counts};
use crate::netlink::{
    nftables::{Ruleset, Set, Value},
    rule::{Direction, Family, Part, Rule},
};

/// Internal endpoint, and what else the mapping depends on, to external port.
const PORTS: &str = "ports";
/// External ports that are given out.
const TAKEN: &str = "taken";
/// The ports that are given out one after the other, where the kernel cannot count them up.
const SEQUENCE: &str = "sequence";

/// Most ports of such a list, which then begins anew: more mappings than a dial makes, and little
/// work for the kernel. A dozen dials that guess make more.
const SEQUENCE_LENGTH: u32 = 1024;

/// How often a hash is tried before the kernel draws a port. With a tenth of the ports given out,
/// all fail once in 100 million times.
const HASHES: u32 = 8;

const EXTERNAL_PORT: [Part; 2] = [Part::Protocol, Part::MappedPort];

/// All that a mapping can depend on.
const CONNECTION: [Part; 5] = [
    Part::Protocol,
    Part::InternalAddress,
    Part::InternalPort,
    Part::DestinationAddress(Family::V4),
    Part::DestinationPort,
];

/// What a mapping depends on.
fn key(mapping: Dependence) -> &'static [Part] {
    match mapping {
        Dependence::EndpointIndependent => &CONNECTION[..3],
        Dependence::AddressDependent => &CONNECTION[..4],
        Dependence::AddressAndPortDependent => &CONNECTION,
    }
}

/// Whether the kernel's own way of choosing ports is the one asked for.
fn is_linux(spec: &NatSpec) -> bool {
    spec.ports == PortAssignment::PreservedWithOverload
}

pub(super) fn sets(spec: &NatSpec) -> Vec<Set> {
    if !spec.translates() || is_linux(spec) {
        return vec![];
    }
    let ports = Set {
        name: PORTS,
        key: key(spec.mapping),
        value: Value::Port,
    };
    let taken = Set {
        name: TAKEN,
        key: &EXTERNAL_PORT,
        value: Value::Nothing,
    };
    match spec.mapping {
        // Connection tracking itself remembers each.
        Dependence::AddressAndPortDependent => vec![taken],
        _ => vec![taken, ports],
    }
}

/// Adds the sequence of ports, if they are given out in one.
pub(super) fn add_ports(ruleset: Ruleset, spec: &NatSpec, seed: u32) -> Ruleset {
    match spec.ports {
        PortAssignment::Sequential { delta } if counted(spec, seed).is_none() => {
            ruleset.port_list(SEQUENCE, &sequence(spec.port_range, delta, seed))
        }
        _ => ruleset,
    }
}

/// Returns the part of the range that the kernel counts up, if ports are to follow each
/// other without a gap: all from one in the lower half.
fn counted(spec: &NatSpec, seed: u32) -> Option<PortRange> {
    let PortRange { first, last } = spec.port_range;
    let half = spec.port_range.count() / 2;
    let is_by_one = spec.ports == PortAssignment::Sequential { delta: 1 };
    (is_by_one && half > SEQUENCE_LENGTH).then(|| PortRange {
        // Less than the number of ports, so within the range.
        first: first + (seed % half) as u16,
        last,
    })
}

fn sequence(range: PortRange, delta: u16, seed: u32) -> Vec<u16> {
    let count = range.count();
    let start = seed % count;
    (0..SEQUENCE_LENGTH.min(count))
        // Less than the number of ports, so within the range.
        .map(|step| range.first + ((start + step * u32::from(delta)) % count) as u16)
        .collect()
}

/// Returns the rules that translate the first packet of a connection.
pub(super) fn rules(spec: &NatSpec, external: Ipv4Addr, seed: u32) -> Vec<Rule> {
    let outgoing = outgoing(spec, Family::V4);
    let range = range(spec, seed);
    if is_linux(spec) {
        let range = (range != PortRange::UNPRIVILEGED).then_some(range);
        let with_ports = outgoing.clone().has_ports(Family::V4);
        return vec![
            with_ports.source(external, range),
            outgoing.source(external, None),
        ];
    }
    let with_ports = outgoing.clone().has_ports(Family::V4);
    let key = key(spec.mapping);
    let free = |chosen: Rule| chosen.port_is_not_in(TAKEN).source_with_port(external);
    let mut rules = vec![];
    if spec.mapping != Dependence::AddressAndPortDependent {
        let known = with_ports.clone().load(key).load_port_from(PORTS);
        rules.push(known.source_with_port(external));
    }
    match spec.ports {
        PortAssignment::Preserved => rules.push(free(with_ports.clone().choose_own_port())),
        PortAssignment::Sequential { delta } => {
            let with_ports = with_ports.clone();
            rules.push(free(match counted(spec, seed) {
                Some(range) => with_ports.choose_port_by_count(range),
                None => {
                    let length = sequence(range, delta, seed).len() as u32;
                    with_ports.choose_port_in_turn(SEQUENCE, length)
                }
            }));
        }
        _ => {}
    }
    for attempt in 0..HASHES {
        let seed = seed.wrapping_add(attempt);
        rules.push(free(
            with_ports.clone().choose_port_by_hash(key, range, seed),
        ));
    }
    rules.push(with_ports.source_random(external, range));
    rules.push(outgoing.source(external, None));
    rules
}

/// Returns the ports that the host may have.
fn range(spec: &NatSpec, seed: u32) -> PortRange {
    let PortAssignment::RandomInBlock { size } = spec.ports else {
        return spec.port_range;
    };
    // One host is behind each box, so it does not matter whose block it is.
    let blocks = spec.port_range.count() / u32::from(size);
    // Blocks lie within the range.
    let first = spec.port_range.first + (seed % blocks * u32::from(size)) as u16;
    let last = first + (size - 1);
    PortRange { first, last }
}

/// Notes which ports are given out.
pub(super) fn remember(spec: &NatSpec) -> Vec<Rule> {
    if !spec.translates() || is_linux(spec) {
        return vec![];
    }
    let counts = || {
        let rule = outgoing(spec, Family::V4).has_ports(Family::V4);
        when_it_counts(rule, spec).direction(Direction::Original)
    };
    let mut rules = vec![
        counts()
            .load(&EXTERNAL_PORT)
            .remember_key(TAKEN, timeout(spec)),
    ];
    if spec.mapping != Dependence::AddressAndPortDependent {
        let internal = counts().load(key(spec.mapping));
        rules.push(internal.remember_port(PORTS, timeout(spec)));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_wraps_within_its_range() {
        let range = PortRange {
            first: 2000,
            last: 2009,
        };
        let ports = sequence(range, 3, 25);
        assert_eq!(
            ports,
            [2005, 2008, 2001, 2004, 2007, 2000, 2003, 2006, 2009, 2002]
        );
    }

    #[test]
    fn a_large_range_is_counted_up_to_its_end() {
        let counts = |delta, first, last| {
            let spec = NatSpec::port_preserving()
                .ports(PortAssignment::Sequential { delta })
                .port_range(first, last);
            counted(&spec, 70_000)
        };
        let PortRange { first, last } = counts(1, 1024, 65_535).expect("it is large");
        assert!((1024..=33_280).contains(&first));
        assert_eq!(last, 65_535);
        assert_eq!(counts(2, 1024, 65_535), None);
        assert_eq!(counts(1, 1024, 3071), None);
    }

    #[test]
    fn a_block_is_within_its_range() {
        let spec = NatSpec::port_preserving()
            .ports(PortAssignment::RandomInBlock { size: 512 })
            .port_range(1024, 65_535);
        let block = range(&spec, u32::MAX);
        let index = u32::MAX % 126;
        assert_eq!(u32::from(block.first), 1024 + index * 512);
        assert_eq!(block.count(), 512);
    }
}
