//! Turning a [`NatSpec`] into netfilter rules and settings.

mod expressible;
mod filtering;
mod mapping;
mod tracking;

use std::net::Ipv4Addr;

use p2pconnect_nat::{Hairpinning, NatSpec, SimultaneousOpen, Timers, UnsolicitedSyn};

use crate::{
    error::Error,
    namespace::set_sysctl,
    netlink::{
        nftables::{Chain, Ruleset, Set, empty_set},
        rule::{Family, Rule},
    },
};

pub(crate) use expressible::check;

/// The link of a box towards the core.
pub(crate) const OUTSIDE: &str = "wan";
/// The link of a box towards its host.
pub(crate) const INSIDE: &str = "lan";

const PRIORITY_MARK: i32 = -150;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;
/// After source NAT, when the mapped port is known.
const PRIORITY_AFTER_SOURCE_NAT: i32 = 200;

/// Makes the network namespace of this thread behave as the specification says.
pub(crate) fn install(spec: &NatSpec, external: Ipv4Addr, seed: u32) -> Result<(), Error> {
    let mut ruleset = sets(spec)
        .into_iter()
        .fold(Ruleset::new(), |ruleset, set| {
            ruleset.set(set, expires(spec))
        })
        .chain(INPUT, input_rules(spec))
        .chain(FORWARD, forward_rules(spec));
    if hairpins(spec) {
        // Whether a packet came from inside is not known any more where its source is rewritten.
        ruleset = ruleset.chain(MARK, vec![Rule::new().entering(INSIDE).mark()]);
        // A packet back to where it came from makes Linux send redirects.
        set_sysctl("ipv4/conf/all/send_redirects", "0")?;
        set_sysctl("ipv4/conf/default/send_redirects", "0")?;
    }
    if spec.translates() {
        ruleset = mapping::add_ports(ruleset, spec, seed)
            .chain(POSTROUTING, mapping::rules(spec, external, seed))
            .chain(PREROUTING, filtering::destination_rules(spec, external));
    }
    let mut remember = mapping::remember(spec);
    remember.extend(filtering::remember(spec));
    ruleset.chain(REMEMBER, remember).install()?;
    // After the rules, since they make the kernel track connections and only then some of these
    // settings count.
    tracking::configure(spec)
}

/// Forgets all mappings, and the endpoints that filtering lets through.
pub(crate) fn forget(spec: &NatSpec) -> Result<(), Error> {
    sets(spec).iter().try_for_each(|set| empty_set(set.name))
}

/// What the box remembers beyond its connections.
fn sets(spec: &NatSpec) -> Vec<Set> {
    let mut sets = mapping::sets(spec);
    sets.extend(filtering::sets(spec));
    sets
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

const MARK: Chain = Chain {
    name: "mark",
    kind: "filter",
    hook: libc::NF_INET_PRE_ROUTING,
    priority: PRIORITY_MARK,
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

fn input_rules(spec: &NatSpec) -> Vec<Rule> {
    let mut rules = guard(spec, vec![]);
    // The box itself offers nothing, and what should have been sent back must not meet the answers
    // of its own network stack.
    rules.push(Rule::new().entering(INSIDE).drop());
    rules
}

fn forward_rules(spec: &NatSpec) -> Vec<Rule> {
    let mut rules = vec![];
    if let Some(limit) = tracking::limit(spec) {
        let begins = Rule::new().leaving(OUTSIDE).starts_connection();
        rules.push(begins.more_connections_than(limit).drop());
    }
    if spec.drop_echo {
        let echo = |family| Rule::new().leaving(OUTSIDE).echo_request(family).drop();
        rules.extend([Family::V4, Family::V6].map(echo));
    }
    rules.extend(filtering::forward_rules(spec));
    guard(spec, rules)
}

/// Rules around `between`: what is known passes, strangers get the answer.
fn guard(spec: &NatSpec, between: Vec<Rule>) -> Vec<Rule> {
    let stranger = Rule::new().entering(OUTSIDE);
    let mut rules = vec![Rule::new().invalid().drop()];
    let crossing = stranger.clone().syn_alone().reply();
    match spec.simultaneous_open {
        SimultaneousOpen::Allowed => {}
        SimultaneousOpen::Dropped => rules.push(crossing.drop()),
        SimultaneousOpen::Reset => rules.push(crossing.reject_with_reset()),
    }
    rules.extend(between);
    rules.push(Rule::new().established().accept());
    let answered = stranger.clone().syn_alone();
    match spec.unsolicited {
        // The one with a delay was refused before.
        UnsolicitedSyn::Nothing | UnsolicitedSyn::IcmpPortUnreachableAfter(_) => {}
        UnsolicitedSyn::Rst => rules.push(answered.reject_with_reset()),
        UnsolicitedSyn::IcmpProhibited => rules.push(answered.reject_as_prohibited()),
        UnsolicitedSyn::IcmpPortUnreachable => rules.push(answered.reject_as_unreachable()),
    }
    rules.push(stranger.drop());
    rules
}

/// Matches what goes out with a mapping.
fn outgoing(spec: &NatSpec, family: Family) -> Rule {
    let rule = if family == Family::V4 && hairpins(spec) {
        Rule::new().marked()
    } else {
        Rule::new().leaving(OUTSIDE)
    };
    rule.family(family)
}

fn hairpins(spec: &NatSpec) -> bool {
    spec.translates() && spec.hairpinning == Hairpinning::ExternalSource
}

/// Without a timeout, noting an endpoint once is enough and saves work on every later packet.
fn when_it_counts(rule: Rule, spec: &NatSpec) -> Rule {
    if expires(spec) {
        rule
    } else {
        rule.starts_connection()
    }
}

/// Whether what is remembered is ever forgotten; Linux's own five days are longer than any lab.
fn expires(spec: &NatSpec) -> bool {
    spec.timers.established != Timers::LINUX.established
}

fn timeout(spec: &NatSpec) -> Option<u64> {
    // A timeout of more milliseconds than 64 bits hold is as good as any other.
    expires(spec).then(|| u64::try_from(spec.timers.established.as_millis()).unwrap_or(u64::MAX))
}
