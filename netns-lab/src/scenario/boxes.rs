//! Boxes of a scenario.

use super::error::Fault;
use super::fields::{Fields, Value, hint};
use super::schema;
use crate::model::PrefixPair;
use crate::preset;
use crate::spec::{
    Dependence, Directions, Hairpinning, NatSpec, Pooling, PortAssignment, PortRange, RstEffect,
    SimultaneousOpen, Translation, Translation6, UnsolicitedSyn, WhenFull,
};

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

/// Returns the names that a box can be told by.
fn known() -> Vec<&'static str> {
    let presets = preset::all().iter().map(|preset| preset.name);
    KINDS.iter().map(|(name, _)| *name).chain(presets).collect()
}

/// Returns whether a name is that of a kind or a preset.
pub(super) fn is_known(name: &str) -> bool {
    known().contains(&name)
}

/// Returns the boxes that a name stands for, innermost first; `more` names
/// would have been right as well.
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

/// Reads the boxes that a table describes: those of its preset, which can only
/// be changed if it is one.
pub(super) fn read(fields: &Fields<'_>, value: &Value<'_>) -> Result<Vec<NatSpec>, Fault> {
    let named = fields.read("preset", |value| by_name(&value, &[]))?;
    let mut specs = named.unwrap_or_else(|| vec![NatSpec::rfc5382()]);
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

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn change(spec: &mut NatSpec, fields: &Fields<'_>) -> Result<(), Fault> {
    let translation = [("nat44", Translation::Nat44), ("none", Translation::None)];
    let pooling = [
        ("paired", Pooling::Paired),
        ("arbitrary", Pooling::Arbitrary),
    ];
    set(
        &mut spec.translation,
        fields.read("translation", |it| it.word(&translation))?,
    );
    set(
        &mut spec.translation6,
        fields.read("translation6", |it| translation6(&it))?,
    );
    set(
        &mut spec.mapping,
        fields.read("mapping", |it| it.word(&DEPENDENCE))?,
    );
    set(
        &mut spec.filtering,
        fields.read("filtering", |it| it.word(&DEPENDENCE))?,
    );
    set(&mut spec.ports, fields.read("ports", |it| ports(&it))?);
    set(
        &mut spec.port_range,
        fields.read("port_range", |it| port_range(&it))?,
    );
    set(
        &mut spec.pooling,
        fields.read("pooling", |it| it.word(&pooling))?,
    );
    change_answers(spec, fields)?;
    change_memory(spec, fields)
}

fn change_answers(spec: &mut NatSpec, fields: &Fields<'_>) -> Result<(), Fault> {
    set(
        &mut spec.unsolicited,
        fields.read("unsolicited", |it| unsolicited(&it))?,
    );
    set(
        &mut spec.simultaneous_open,
        fields.read("simultaneous_open", |it| it.word(&SIMULTANEOUS_OPEN))?,
    );
    set(&mut spec.rst, fields.read("rst", |it| it.word(&RST))?);
    set(
        &mut spec.strip_window_scale,
        fields.read("strip_window_scale", |it| it.word(&DIRECTIONS))?,
    );
    set(
        &mut spec.drop_echo,
        fields.read("drop_echo", |it| it.boolean())?,
    );
    set(
        &mut spec.drop_ecn_udp,
        fields.read("drop_ecn_udp", |it| it.boolean())?,
    );
    set(
        &mut spec.hairpinning,
        fields.read("hairpinning", |it| it.word(&HAIRPINNING))?,
    );
    Ok(())
}

fn change_memory(spec: &mut NatSpec, fields: &Fields<'_>) -> Result<(), Fault> {
    set(&mut spec.pickup, fields.read("pickup", |it| it.boolean())?);
    set(
        &mut spec.udp_inbound_refresh,
        fields.read("udp_inbound_refresh", |it| it.boolean())?,
    );
    if let Some(table) = fields.get("timers") {
        let fields = table.fields(&schema::TIMERS)?;
        let timers = &mut spec.timers;
        for (name, timer) in [
            ("transitory", &mut timers.transitory),
            ("established", &mut timers.established),
            ("time_wait", &mut timers.time_wait),
            ("udp", &mut timers.udp),
            ("echo", &mut timers.echo),
        ] {
            set(timer, fields.read(name, |it| it.duration())?);
        }
    }
    if let Some(table) = fields.get("limits") {
        let fields = table.fields(&schema::LIMITS)?;
        let count = |it: Value<'_>| it.integer(1, 1 << 24).map(|count| count as usize);
        set(&mut spec.limits.sessions, fields.read("sessions", count)?);
        set(
            &mut spec.limits.sessions_per_host,
            fields.read("sessions_per_host", count)?,
        );
        let words = [
            ("refuse", WhenFull::Refuse),
            ("evict-soonest-to-expire", WhenFull::EvictSoonestToExpire),
        ];
        set(
            &mut spec.limits.when_full,
            fields.read("when_full", |it| it.word(&words))?,
        );
    }
    Ok(())
}

fn translation6(value: &Value<'_>) -> Result<Translation6, Fault> {
    let words = [("none", Translation6::None), ("nat66", Translation6::Nat66)];
    if !value.is_table() {
        return value.word(&words);
    }
    let fields = value.fields(&schema::TRANSLATION6)?;
    let pair = the(&fields, "nptv6", value)?;
    let fields = pair.fields(&schema::NPTV6)?;
    let address = |name| {
        let value = the(&fields, name, &pair)?;
        let wanted = |_| value.fault("wanted is an IPv6 address such as \"fd00:1::\"");
        value.text()?.parse().map_err(wanted)
    };
    Ok(Translation6::Nptv6(PrefixPair {
        internal: address("internal")?,
        external: address("external")?,
        length: the(&fields, "length", &pair)?.integer(1, 64)? as u8,
    }))
}

fn ports(value: &Value<'_>) -> Result<PortAssignment, Fault> {
    if !value.is_table() {
        return value.word(&PORTS);
    }
    let fields = value.fields(&schema::PORTS)?;
    match (fields.get("sequential"), fields.get("random-in-block")) {
        (Some(delta), None) => delta
            .port()
            .map(|delta| PortAssignment::Sequential { delta }),
        (None, Some(size)) => size
            .port()
            .map(|size| PortAssignment::RandomInBlock { size }),
        (None, None) | (Some(_), Some(_)) => {
            Err(value.fault("wanted is either `sequential` or `random-in-block`"))
        }
    }
}

fn unsolicited(value: &Value<'_>) -> Result<UnsolicitedSyn, Fault> {
    if !value.is_table() {
        return value.word(&UNSOLICITED);
    }
    let fields = value.fields(&schema::UNSOLICITED)?;
    let delay = the(&fields, "icmp-port-unreachable-after", value)?;
    Ok(UnsolicitedSyn::IcmpPortUnreachableAfter(delay.duration()?))
}

fn port_range(value: &Value<'_>) -> Result<PortRange, Fault> {
    let list = value.list()?;
    let [first, last] = list.as_slice() else {
        return Err(value.fault("wanted are two ports, the lowest and the highest"));
    };
    let (first, last) = (first.port()?, last.port()?);
    if first > last {
        return Err(value.fault("the lowest port comes first"));
    }
    Ok(PortRange { first, last })
}

/// Returns a field that must be there.
pub(super) fn the<'t>(
    fields: &Fields<'t>,
    name: &str,
    table: &Value<'t>,
) -> Result<Value<'t>, Fault> {
    let missing = || table.fault(format!("`{name}` is missing"));
    fields.get(name).ok_or_else(missing)
}
