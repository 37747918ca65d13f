//! From the text of a scenario to its parts.

use std::{collections::BTreeMap, time::Duration};

use p2pconnect_nat::NatSpec;
use toml::de::DeTable;

use super::{
    Expect, Scenario, boxes,
    error::Fault,
    fields::{Fields, Named, Value, hint},
    links, schema,
    script::Script,
};
use crate::{
    fabric::{Gate, GateError, PacketPattern},
    topology::{BoxSpec, HostSpec, Topology},
    virtual_time::World,
};

/// The seed of a scenario that names none.
pub(super) const SEED: u64 = 1;

/// How long a scenario runs unless it says so.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// The boxes that `behind` can name.
#[derive(Debug, Default)]
struct Boxes<'t> {
    /// Each mention is a box of its own.
    own: BTreeMap<&'t str, Vec<NatSpec>>,
    /// All mentions are one box.
    shared: Vec<&'t str>,
}

/// What `behind` says.
#[derive(Debug, Default)]
struct Behind<'t> {
    own: Vec<NatSpec>,
    shared: Option<&'t str>,
}

pub(super) fn read(text: &str) -> Result<Scenario, Fault> {
    let table = DeTable::parse(text)
        .map_err(|error| Fault::new(error.span().unwrap_or(0..0), error.message()))?;
    let fields = Fields::new(table.get_ref(), table.span(), &schema::TOP)?;
    let title = fields.or("title", "", Value::text)?;
    let seed = fields.or("seed", SEED, |it| it.integer(0, i64::MAX as u64))?;
    let limit = fields.or("limit", LIMIT, Value::duration)?;
    let (topology, listeners) = read_topology(&fields)?;
    let mut world = check(&topology, &fields)?;
    let gates = fields.each("gates", |it| read_gate(it, &mut world))?;
    let topology = gates.into_iter().fold(topology, Topology::gate);
    let script = Script::new(&topology);
    Ok(Scenario {
        title: title.into(),
        seed,
        limit,
        play: script.play(&fields)?,
        steps: script.steps(&fields)?,
        expect: fields.or("expect", Expect::default(), super::script::expect)?,
        topology,
        listeners,
    })
}

/// The hosts' ports that somebody listens on.
type Listeners = Vec<(String, u16)>;

fn read_topology(fields: &Fields<'_>) -> Result<(Topology, Listeners), Fault> {
    let mut topology = Topology::new();
    let mut boxes = Boxes::default();
    for described in fields.named("boxes")? {
        topology = boxes.add(&described, topology)?;
    }
    let hosts = fields.named("hosts")?;
    if hosts.is_empty() {
        let message = "a scenario needs hosts, such as [hosts.a]";
        return Err(Fault::new(0..0, message));
    }
    let mut listeners = Vec::new();
    for host in hosts {
        check_name(&host)?;
        let name = host.name;
        let fields = host.value.fields(&schema::HOST)?;
        let mut host = HostSpec::new(name);
        if let Some(link) = fields.read("link", links::read)? {
            host = host.link(link);
        }
        let behind = fields.or("behind", Behind::default(), |it| boxes.behind(it))?;
        host = behind.own.into_iter().fold(host, HostSpec::behind);
        if let Some(shared) = behind.shared {
            host = host.behind_shared(shared);
        }
        topology = topology.host(host);
        fields.each("listen", |port| {
            let listener = (name.to_owned(), port.port()?);
            if listeners.contains(&listener) {
                return Err(port.fault("the host listens on that port already"));
            }
            listeners.push(listener);
            Ok(())
        })?;
    }
    Ok((topology, listeners))
}

fn check_name(named: &Named<'_>) -> Result<(), Fault> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if named.name.is_empty() || !named.name.chars().all(is_word) {
        let message = "names are made of letters, digits, - and _";
        return Err(Fault::new(named.span.clone(), message));
    }
    Ok(())
}

impl<'t> Boxes<'t> {
    /// Takes a box of the file, and puts it in the lab if it is shared.
    fn add(&mut self, described: &Named<'t>, topology: Topology) -> Result<Topology, Fault> {
        check_name(described)?;
        let Named { name, span, value } = described;
        if boxes::is_known(name) {
            let message = "this is the name of a preset; take another";
            return Err(Fault::new(span.clone(), message));
        }
        let fields = value.fields(&schema::BOX)?;
        let specs = boxes::read(&fields, value)?;
        if !fields.or("shared", false, Value::boolean)? {
            for name in ["behind", "link", "addresses"] {
                if let Some(span) = fields.key(name) {
                    let message = "only a box with `shared = true` has this";
                    return Err(Fault::new(span, message));
                }
            }
            self.own.insert(name, specs);
            return Ok(topology);
        }
        let [spec] = specs.as_slice() else {
            let message = format!("a shared box is one box; the preset has {}", specs.len());
            return Err(Fault::new(span.clone(), message));
        };
        let mut described = BoxSpec::new(*name, *spec);
        if let Some(link) = fields.read("link", links::read)? {
            described = described.link(link);
        }
        if let Some(count) = fields.read("addresses", |it| it.integer(1, 100))? {
            described = described.addresses(count as u8);
        }
        if let Some(above) = fields.get("behind") {
            let above_name = above.text()?;
            if !self.shared.contains(&above_name) {
                let hint = hint(above_name, &self.shared);
                let message = format!("no shared box of this name stands before it{hint}");
                return Err(above.fault(message));
            }
            described = described.behind_shared(above_name);
        }
        self.shared.push(name);
        Ok(topology.shared_box(described))
    }

    /// Reads the chain of a host, innermost first.
    fn behind(&self, value: &Value<'t>) -> Result<Behind<'t>, Fault> {
        let mut behind = Behind::default();
        value.each(|value| {
            if let Some(shared) = behind.shared {
                return Err(value.fault(format!(
                    "nothing can come after the shared box {shared:?}: what it is behind, \
                     [boxes.{shared}] says"
                )));
            }
            if !value.is_text() {
                let fields = value.fields(&schema::OWN_BOX)?;
                behind.own.extend(boxes::read(&fields, value)?);
                return Ok(());
            }
            let name = value.text()?;
            if self.shared.contains(&name) {
                behind.shared = Some(name);
            } else if let Some(specs) = self.own.get(name) {
                behind.own.extend(specs);
            } else {
                let more: Vec<_> = self.own.keys().chain(&self.shared).copied().collect();
                behind.own.extend(boxes::by_name(value, &more)?);
            }
            Ok(())
        })?;
        Ok(behind)
    }
}

/// Builds the lab once, to see whether it can be.
fn check(topology: &Topology, fields: &Fields<'_>) -> Result<World, Fault> {
    World::build(topology, 0).map_err(|error| {
        let span = fields.key("hosts").unwrap_or(0..0);
        Fault::new(span, error.to_string())
    })
}

/// Reads a gate, and tries it in the lab.
fn read_gate(value: &Value<'_>, world: &mut World) -> Result<Gate, Fault> {
    let fields = value.fields(&schema::GATE)?;
    let pattern = |name| -> Result<(PacketPattern, Value<'_>), Fault> {
        let text = fields.need(name)?;
        let pattern: Result<PacketPattern, GateError> = text.text()?.parse();
        let pattern = pattern.map_err(|error| text.fault(error.to_string()))?;
        Ok((pattern, text))
    };
    let ((hold, hold_text), (until, until_text)) = (pattern("hold")?, pattern("until")?);
    for (pattern, text) in [(&hold, hold_text), (&until, until_text)] {
        let gate = Gate::new(pattern.clone(), pattern.clone());
        let added = world.add_gate(&gate);
        added.map_err(|error| text.fault(error.to_string()))?;
    }
    let limit = fields.or("limit", Gate::LIMIT, Value::duration)?;
    Ok(Gate::new(hold, until).limit(limit))
}
