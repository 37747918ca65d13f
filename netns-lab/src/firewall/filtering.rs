//! Who may send to a mapped endpoint.
//!
//! Connection tracking lets in who was sent to. What lets others in as well is noted behind source
//! NAT, where the external port of a connection is known.

use std::net::Ipv4Addr;

use p2pconnect_nat::{Dependence, NatSpec};

use super::{OUTSIDE, hairpins, outgoing, timeout, when_it_counts};
use crate::netlink::{
    nftables::{Set, Value},
    rule::{Direction, Family, Part, Rule},
};

/// External port to internal endpoint.
const MAPPED: &str = "mapped";
/// External ports with remote addresses that they were used for.
const PERMITTED: &str = "permitted";
/// Internal endpoints that have sent, where nothing is translated; with the remote addresses, where
/// it depends on them.
const OPEN_V4: &str = "open4";
const OPEN_V6: &str = "open6";

/// An external port with the remote address, as an outgoing packet has them.
const PERMIT: [Part; 3] = [
    Part::Protocol,
    Part::MappedPort,
    Part::DestinationAddress(Family::V4),
];
/// The same as an incoming packet has them.
const ENTRY: [Part; 3] = [
    Part::Protocol,
    Part::DestinationPort,
    Part::SourceAddress(Family::V4),
];

const SENT_V4: [Part; 4] = sent(Family::V4);
const SENT_V6: [Part; 4] = sent(Family::V6);

/// An internal endpoint with the remote address, as an outgoing packet has them.
const fn sent(family: Family) -> [Part; 4] {
    [
        Part::Protocol,
        Part::SourceAddress(family),
        Part::SourcePort,
        Part::DestinationAddress(family),
    ]
}

/// The same as an incoming packet has them.
const fn received(family: Family) -> [Part; 4] {
    [
        Part::Protocol,
        Part::DestinationAddress(family),
        Part::DestinationPort,
        Part::SourceAddress(family),
    ]
}

/// Returns the part of a key that matters, of which the remote address comes last.
fn what_counts<'a>(key: &'a [Part], spec: &NatSpec) -> &'a [Part] {
    let without_address = key.split_last().map_or(key, |(_, rest)| rest);
    if spec.filtering == Dependence::AddressDependent {
        key
    } else {
        without_address
    }
}

/// Whether connection tracking alone decides who gets in.
fn is_linux(spec: &NatSpec) -> bool {
    spec.filtering == Dependence::AddressAndPortDependent
}

pub(super) fn sets(spec: &NatSpec) -> Vec<Set> {
    if is_linux(spec) {
        return vec![];
    }
    let set = |name, key, value| Set { name, key, value };
    let mut sets = vec![set(OPEN_V6, what_counts(&SENT_V6, spec), Value::Nothing)];
    if !spec.translates() {
        sets.push(set(OPEN_V4, what_counts(&SENT_V4, spec), Value::Nothing));
        return sets;
    }
    sets.push(set(MAPPED, &PERMIT[..2], Value::EndpointV4));
    if spec.filtering == Dependence::AddressDependent {
        sets.push(set(PERMITTED, &PERMIT, Value::Nothing));
    }
    sets
}

/// Returns the rules that send strangers to whoever has a mapping on the port.
pub(super) fn destination_rules(spec: &NatSpec, external: Ipv4Addr) -> Vec<Rule> {
    if is_linux(spec) {
        return vec![];
    }
    let translate = |rule: Rule| {
        rule.load(&ENTRY[..2])
            .load_endpoint_from(MAPPED)
            .destination_from_map()
    };
    let incoming = Rule::new()
        .entering(OUTSIDE)
        .family(Family::V4)
        .has_ports(Family::V4);
    let incoming = if spec.filtering == Dependence::AddressDependent {
        incoming.load(&ENTRY).key_in(PERMITTED)
    } else {
        incoming
    };
    let mut rules = vec![translate(incoming)];
    if hairpins(spec) {
        let back = Rule::new().marked().family(Family::V4);
        rules.push(translate(back.has_ports(Family::V4).to(external)));
    }
    rules
}

/// Returns the rules that let strangers in.
pub(super) fn forward_rules(spec: &NatSpec) -> Vec<Rule> {
    if is_linux(spec) {
        return vec![];
    }
    let incoming = |family, set| {
        let key = received(family);
        Rule::new()
            .entering(OUTSIDE)
            .family(family)
            .has_ports(family)
            .load(what_counts(&key, spec))
            .key_in(set)
            .accept()
    };
    let v4 = if spec.translates() {
        let stranger = Rule::new().entering(OUTSIDE).family(Family::V4);
        stranger.destination_was_mapped().accept()
    } else {
        incoming(Family::V4, OPEN_V4)
    };
    vec![incoming(Family::V6, OPEN_V6), v4]
}

/// Returns the rules that note whom to let in.
pub(super) fn remember(spec: &NatSpec) -> Vec<Rule> {
    if is_linux(spec) {
        return vec![];
    }
    let counts = |family| {
        let rule = outgoing(spec, family).has_ports(family);
        when_it_counts(rule, spec)
    };
    let note = |family, key: &[Part], set| {
        counts(family)
            .load(what_counts(key, spec))
            .remember_key(set, timeout(spec))
    };
    let mut rules = vec![note(Family::V6, &SENT_V6, OPEN_V6)];
    if !spec.translates() {
        rules.push(note(Family::V4, &SENT_V4, OPEN_V4));
        return rules;
    }
    let from_inside = || counts(Family::V4).direction(Direction::Original);
    let mapped = from_inside().load(&PERMIT[..2]);
    rules.push(mapped.remember_endpoint(MAPPED, timeout(spec)));
    if spec.filtering == Dependence::AddressDependent {
        let permit = from_inside().load(&PERMIT);
        rules.push(permit.remember_key(PERMITTED, timeout(spec)));
    }
    rules
}
