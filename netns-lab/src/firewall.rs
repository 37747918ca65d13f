//! Turning a [`NatSpec`] into netfilter rules and settings.

mod expressible;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::error::Error;
use crate::namespace::set_sysctl;
use crate::netlink::nftables::{Chain, Key, Ruleset, empty_set};
use crate::netlink::rule::{Direction, Family, Rule};
use crate::spec::{Dependence, NatSpec, PortAssignment, Timers, UnsolicitedSyn};

pub(crate) use expressible::check;

/// The link of a box towards the core.
pub(crate) const OUTSIDE: &str = "wan";
/// The link of a box towards its host.
pub(crate) const INSIDE: &str = "lan";

/// External port to internal endpoint, for endpoint-independent filtering.
const MAPPED: &str = "mapped";
/// Internal endpoints that have sent, where nothing is translated.
const OPEN_V4: &str = "open4";
const OPEN_V6: &str = "open6";

const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;
/// After source NAT, when the mapped port is known.
const PRIORITY_AFTER_SOURCE_NAT: i32 = 200;

/// Makes the network namespace of this thread behave as the specification says.
pub(crate) fn install(spec: &NatSpec, external: Ipv4Addr, seed: u32) -> Result<(), Error> {
    let guarded = [(INPUT, vec![]), (FORWARD, forward_rules(spec))];
    let mut ruleset = endpoint_sets(Ruleset::new(), spec);
    for (chain, rules) in guarded {
        ruleset = ruleset.chain(chain, filter_rules(spec, rules));
    }
    if spec.translates() {
        ruleset = ruleset.chain(POSTROUTING, translate(spec, external, seed));
        if spec.filtering == Dependence::EndpointIndependent {
            ruleset = endpoint_independent_translation(ruleset, spec);
        }
    }
    ruleset.install()?;
    // After the rules, since they make the kernel track connections and only
    // then some of these settings count.
    configure_tracking(spec)
}

/// Forgets the endpoints that endpoint-independent filtering lets through.
pub(crate) fn forget(spec: &NatSpec) -> Result<(), Error> {
    if spec.filtering == Dependence::AddressAndPortDependent {
        return Ok(());
    }
    empty_set(OPEN_V6)?;
    empty_set(if spec.translates() { MAPPED } else { OPEN_V4 })
}

const INPUT: Chain = Chain {
    name: "input",
    kind: "filter",
    hook: libc::NF_INET_LOCAL_IN,
    priority: PRIORITY_FILTER,
};

const FORWARD: Chain = Chain {
    name: "forward",
    kind: "filter",
    hook: libc::NF_INET_FORWARD,
    priority: PRIORITY_FILTER,
};

const PREROUTING: Chain = Chain {
    name: "prerouting",
    kind: "nat",
    hook: libc::NF_INET_PRE_ROUTING,
    priority: PRIORITY_DESTINATION_NAT,
};

const POSTROUTING: Chain = Chain {
    name: "postrouting",
    kind: "nat",
    hook: libc::NF_INET_POST_ROUTING,
    priority: PRIORITY_SOURCE_NAT,
};

const REMEMBER: Chain = Chain {
    name: "remember",
    kind: "filter",
    hook: libc::NF_INET_POST_ROUTING,
    priority: PRIORITY_AFTER_SOURCE_NAT,
};

/// Rules around `between`: what is known passes, strangers get the answer.
fn filter_rules(spec: &NatSpec, between: Vec<Rule>) -> Vec<Rule> {
    let mut rules = vec![Rule::new().invalid().drop()];
    rules.extend(between);
    rules.push(Rule::new().established().accept());
    let stranger = Rule::new().entering(OUTSIDE);
    match spec.unsolicited {
        UnsolicitedSyn::Rst => rules.push(stranger.clone().tcp().reject_with_reset()),
        UnsolicitedSyn::IcmpProhibited => {
            rules.push(stranger.clone().tcp().reject_as_prohibited());
        }
        // The others were refused before.
        _ => {}
    }
    rules.push(stranger.drop());
    rules
}

/// Rules that endpoint-independent filtering needs on the way through.
fn forward_rules(spec: &NatSpec) -> Vec<Rule> {
    if spec.filtering == Dependence::AddressAndPortDependent {
        return vec![];
    }
    let open = |family, set| {
        let outgoing = Rule::new().leaving(OUTSIDE).family(family).tcp();
        let incoming = Rule::new().entering(OUTSIDE).family(family).tcp();
        [
            when_it_counts(outgoing, spec)
                .load_source(family)
                .remember_key(set, timeout(spec)),
            incoming.load_destination(family).key_in(set).accept(),
        ]
    };
    let mut rules = Vec::from(open(Family::V6, OPEN_V6));
    if spec.translates() {
        rules.push(
            Rule::new()
                .entering(OUTSIDE)
                .destination_was_mapped()
                .accept(),
        );
    } else {
        rules.extend(open(Family::V4, OPEN_V4));
    }
    rules
}

fn endpoint_sets(ruleset: Ruleset, spec: &NatSpec) -> Ruleset {
    if spec.filtering == Dependence::AddressAndPortDependent {
        return ruleset;
    }
    let expires = expires(spec);
    let ruleset = ruleset.set(OPEN_V6, Key::EndpointV6, expires);
    if spec.translates() {
        ruleset.set(MAPPED, Key::PortToEndpointV4, expires)
    } else {
        ruleset.set(OPEN_V4, Key::EndpointV4, expires)
    }
}

/// Sends strangers to whoever has a mapping on the port, and notes mappings.
fn endpoint_independent_translation(ruleset: Ruleset, spec: &NatSpec) -> Ruleset {
    let incoming = Rule::new()
        .entering(OUTSIDE)
        .family(Family::V4)
        .tcp()
        .load_destination_port()
        .load_from(MAPPED)
        .destination_from_map();
    let outgoing = Rule::new().leaving(OUTSIDE).family(Family::V4).tcp();
    let outgoing = when_it_counts(outgoing, spec)
        .direction(Direction::Original)
        .load_mapping()
        .remember_mapping(MAPPED, timeout(spec));
    ruleset
        .chain(PREROUTING, [incoming])
        .chain(REMEMBER, [outgoing])
}

/// Without a timeout, noting an endpoint once is enough and saves work on
/// every later packet.
fn when_it_counts(rule: Rule, spec: &NatSpec) -> Rule {
    if expires(spec) {
        rule
    } else {
        rule.starts_connection()
    }
}

fn timeout(spec: &NatSpec) -> Option<u64> {
    // A timeout of more milliseconds than 64 bits hold is as good as any other.
    expires(spec).then(|| u64::try_from(spec.timers.established.as_millis()).unwrap_or(u64::MAX))
}

/// Whether open endpoints are forgotten; Linux's own five days are longer than any lab.
fn expires(spec: &NatSpec) -> bool {
    spec.timers.established != Timers::LINUX.established
}

fn translate(spec: &NatSpec, external: Ipv4Addr, seed: u32) -> Vec<Rule> {
    let outgoing = Rule::new().leaving(OUTSIDE).family(Family::V4);
    match (spec.ports, spec.mapping) {
        (PortAssignment::Random, Dependence::EndpointIndependent) => vec![
            outgoing
                .clone()
                .tcp()
                .source_by_hash(external, spec.port_range, seed),
            // A hash cannot give way to a port in use, which UDP keeps for minutes
            // after its last packet: masquerade can.
            outgoing.masquerade(),
        ],
        (PortAssignment::Random, _) => vec![outgoing.masquerade_random()],
        _ => vec![outgoing.masquerade()],
    }
}

/// The timeouts of connections that are partially open.
const TRANSITORY: [&str; 3] = [
    "tcp_timeout_syn_sent",
    "tcp_timeout_syn_recv",
    "tcp_timeout_last_ack",
];

/// The timeouts of connections that at least one end has not closed.
const ESTABLISHED: [&str; 3] = [
    "tcp_timeout_established",
    "tcp_timeout_fin_wait",
    "tcp_timeout_close_wait",
];

fn configure_tracking(spec: &NatSpec) -> Result<(), Error> {
    let (ours, linux) = (&spec.timers, &Timers::LINUX);
    let timeouts: [(Duration, Duration, &[&str]); 4] = [
        (ours.transitory, linux.transitory, &TRANSITORY),
        (ours.established, linux.established, &ESTABLISHED),
        (ours.time_wait, linux.time_wait, &["tcp_timeout_time_wait"]),
        (ours.udp, linux.udp, &["udp_timeout", "udp_timeout_stream"]),
    ];
    for (time, default, names) in timeouts {
        // What is Linux's own stays as it is, with different times for each state.
        if time == default {
            continue;
        }
        let seconds = time.as_secs().max(1).to_string();
        for name in names {
            set_sysctl(&format!("netfilter/nf_conntrack_{name}"), &seconds)?;
        }
    }
    if !spec.pickup {
        set_sysctl("netfilter/nf_conntrack_tcp_loose", "0")?;
    }
    Ok(())
}
