//! Boxes of a scenario.

use p2pconnect_nat::{
    Dependence, Directions, Hairpinning, NatSpec, Pooling, PortAssignment, PortRange, RstEffect,
    SimultaneousOpen, Translation, Translation6, UnsolicitedSyn, WhenFull,
};

use super::{
    error::Fault,
    fields::{Fields, Value, hint},
    schema,
};
use crate::{model::PrefixPair, preset};

/// Boxes that are known by a name without being a device.
const KINDS: [(&str, NatSpec); 5] = [
    ("rfc5382", NatSpec::rfc5382()),
    ("port-preserving", NatSpec::port_preserving()),
    ("random-port", NatSpec::random_port()),
    ("random-per-destination", NatSpec::random_per_destination()),
    ("firewall", NatSpec::firewall()),
];

const DEPENDENCE: [(&str, Dependence); 3] = [
    ("endpoint-independent", Dependence::EndpointIndependent),
    ("address-dependent", Dependence::AddressDependent),
    (
        "address-and-port-dependent",
        Dependence::AddressAndPortDependent,
    ),
];

const PORTS: [(&str, PortAssignment); 3] = [
    ("preserved", PortAssignment::Preserved),
    (
        "preserved-with-overload",
        PortAssignment::PreservedWithOverload,
    ),
    ("random", PortAssignment::Random),
];

const UNSOLICITED: [(&str, UnsolicitedSyn); 4] = [
    ("nothing", UnsolicitedSyn::Nothing),
    ("rst", UnsolicitedSyn::Rst),
    ("icmp-prohibited", UnsolicitedSyn::IcmpProhibited),
    ("icmp-port-unreachable", UnsolicitedSyn::IcmpPortUnreachable),
];

const SIMULTANEOUS_OPEN: [(&str, SimultaneousOpen); 3] = [
    ("allowed", SimultaneousOpen::Allowed),
    ("dropped", SimultaneousOpen::Dropped),
    ("reset", SimultaneousOpen::Reset),
];

const RST: [(&str, RstEffect); 3] = [
    ("closes", RstEffect::Closes),
    ("transitory", RstEffect::Transitory),
    ("ignored", RstEffect::Ignored),
];

const DIRECTIONS: [(&str, Directions); 4] = [
    ("neither", Directions::Neither),
    ("outbound", Directions::Outbound),
    ("inbound", Directions::Inbound),
    ("both", Directions::Both),
];

const HAIRPINNING: [(&str, Hairpinning); 3] = [
    ("none", Hairpinning::None),
    ("internal-source", Hairpinning::InternalSource),
    ("external-source", Hairpinning::ExternalSource),
];

const TRANSLATION: [(&str, Translation); 2] =
    [("nat44", Translation::Nat44), ("none", Translation::None)];

const POOLING: [(&str, Pooling); 2] = [
    ("paired", Pooling::Paired),
    ("arbitrary", Pooling::Arbitrary),
];

const WHEN_FULL: [(&str, WhenFull); 2] = [
    ("refuse", WhenFull::Refuse),
    ("evict-soonest-to-expire", WhenFull::EvictSoonestToExpire),
];

/// Returns the names that a box can be told by.
fn known() -> Vec<&'static str> {
    let presets = preset::all().iter().map(|preset| preset.name);
    KINDS.iter().map(|(name, _)| *name).chain(presets).collect()
}

/// Returns whether a name is that of a kind or a preset.
pub(super) fn is_known(name: &str) -> bool {
    known().contains(&name)
}

/// Returns the boxes that a name stands for, innermost first; `more` names would have been right as
/// well.
pub(super) fn by_name(value: &Value<'_>, more: &[&str]) -> Result<Vec<NatSpec>, Fault> {
    let name = value.text()?;
    if let Some((_, spec)) = KINDS.iter().find(|(kind, _)| *kind == name) {
        return Ok(vec![*spec]);
    }
    preset::find(name).map_or_else(
        |_| {
            let known: Vec<_> = more.iter().copied().chain(known()).collect();
            Err(value.fault(format!("unknown box or preset{}", hint(name, &known))))
        },
        |preset| Ok(preset.specs()),
    )
}

/// Reads the boxes that a table describes: those of its preset, which can only be changed if it is
/// one.
pub(super) fn read(fields: &Fields<'_>, value: &Value<'_>) -> Result<Vec<NatSpec>, Fault> {
    let mut specs = fields.or("preset", vec![NatSpec::rfc5382()], |it| by_name(it, &[]))?;
    if let [spec] = specs.as_mut_slice() {
        change(spec, fields)?;
        spec.check()
            .map_err(|error| value.fault(format!("this box cannot be: {error}")))?;
    } else if schema::OWN_BOX
        .names()
        .any(|name| name != "preset" && fields.get(name).is_some())
    {
        let count = specs.len();
        return Err(value.fault(format!(
            "the preset is a chain of {count} boxes; only one box can be changed"
        )));
    }
    Ok(specs)
}

/// Changes those fields of a structure that a table of the same names has.
macro_rules! change {
    ($whole:expr, $fields:expr, { $($field:ident: $convert:expr,)* }) => {
        let fields = &$fields;
        $(if let Some(value) = fields.read(stringify!($field), $convert)? {
            $whole.$field = value;
        })*
    };
}

fn change(spec: &mut NatSpec, fields: &Fields<'_>) -> Result<(), Fault> {
    change!(spec, fields, {
        translation: |it| it.word(&TRANSLATION),
        translation6: translation6,
        mapping: |it| it.word(&DEPENDENCE),
        filtering: |it| it.word(&DEPENDENCE),
        ports: ports,
        port_range: port_range,
        pooling: |it| it.word(&POOLING),
        unsolicited: unsolicited,
        simultaneous_open: |it| it.word(&SIMULTANEOUS_OPEN),
        rst: |it| it.word(&RST),
        pickup: Value::boolean,
        hairpinning: |it| it.word(&HAIRPINNING),
        udp_inbound_refresh: Value::boolean,
        strip_window_scale: |it| it.word(&DIRECTIONS),
        drop_echo: Value::boolean,
        drop_ecn_udp: Value::boolean,
        drop_udp: Value::boolean,
    });
    if let Some(timers) = fields.get("timers") {
        change!(spec.timers, timers.fields(&schema::TIMERS)?, {
            transitory: Value::duration,
            established: Value::duration,
            time_wait: Value::duration,
            udp: Value::duration,
            echo: Value::duration,
        });
    }
    if let Some(limits) = fields.get("limits") {
        let count = |it: &Value<'_>| it.integer(1, 1 << 24).map(|count| count as usize);
        change!(spec.limits, limits.fields(&schema::LIMITS)?, {
            sessions: count,
            sessions_per_host: count,
            when_full: |it| it.word(&WHEN_FULL),
        });
    }
    Ok(())
}

fn translation6(value: &Value<'_>) -> Result<Translation6, Fault> {
    let words = [("none", Translation6::None), ("nat66", Translation6::Nat66)];
    value.word_or_table(&words, &schema::TRANSLATION6, |fields| {
        let fields = fields.need("nptv6")?.fields(&schema::NPTV6)?;
        let address = |name| {
            let value = fields.need(name)?;
            let wanted = |_| value.fault("wanted is an IPv6 address such as \"fd00:1::\"");
            value.text()?.parse().map_err(wanted)
        };
        Ok(Translation6::Nptv6(PrefixPair {
            internal: address("internal")?,
            external: address("external")?,
            length: fields.need("length")?.integer(1, 64)? as u8,
        }))
    })
}

fn ports(value: &Value<'_>) -> Result<PortAssignment, Fault> {
    value.word_or_table(&PORTS, &schema::PORTS, |fields| {
        match (fields.get("sequential"), fields.get("random-in-block")) {
            (Some(delta), None) => {
                let delta = delta.port()?;
                Ok(PortAssignment::Sequential { delta })
            }
            (None, Some(size)) => {
                let size = size.port()?;
                Ok(PortAssignment::RandomInBlock { size })
            }
            (None, None) | (Some(_), Some(_)) => {
                Err(value.fault("wanted is either `sequential` or `random-in-block`"))
            }
        }
    })
}

fn unsolicited(value: &Value<'_>) -> Result<UnsolicitedSyn, Fault> {
    value.word_or_table(&UNSOLICITED, &schema::UNSOLICITED, |fields| {
        let delay = fields.need("icmp-port-unreachable-after")?.duration()?;
        Ok(UnsolicitedSyn::IcmpPortUnreachableAfter(delay))
    })
}

fn port_range(value: &Value<'_>) -> Result<PortRange, Fault> {
    let [first, last] = *value.each(Value::port)? else {
        return Err(value.fault("wanted are two ports, the lowest and the highest"));
    };
    if first > last {
        return Err(value.fault("the lowest port comes first"));
    }
    Ok(PortRange { first, last })
}
