//! From the text of a scenario to its parts.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeTable;

use super::boxes::{self, the};
use super::error::Fault;
use super::fields::{Fields, Named, Value};
use super::script::Script;
use super::{Scenario, links, schema};
use crate::fabric::{Gate, PacketPattern};
use crate::spec::NatSpec;
use crate::topology::{BoxSpec, HostSpec, Topology};
use crate::virtual_time::World;

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
    let fields = Fields::new(table.get_ref(), &schema::TOP)?;
    let title = fields.read("title", |it| it.text())?;
    let seed = fields.read("seed", |it| it.integer(0, i64::MAX as u64))?;
    let limit = fields.read("limit", |it| it.duration())?;
    let (topology, listeners) = read_topology(&fields)?;
    let world = check(&topology, &fields)?;
    let topology = read_gates(&fields, topology, world)?;
    let script = Script::new(&topology);
    let (play, steps) = (script.play(&fields)?, script.steps(&fields)?);
    let expect = fields.read("expect", super::script::expect)?;
    Ok(Scenario {
        title: title.unwrap_or_default().into(),
        seed: seed.unwrap_or(SEED),
        limit: limit.unwrap_or(LIMIT),
        topology,
        listeners,
        play,
        steps,
        expect: expect.unwrap_or_default(),
    })
}

/// The hosts' ports that somebody listens on.
type Listeners = Vec<(String, u16)>;

fn read_topology(fields: &Fields<'_>) -> Result<(Topology, Listeners), Fault> {
    let mut topology = Topology::new();
    let described = fields.read("boxes", |it| it.named())?.unwrap_or_default();
    let mut boxes = Boxes::default();
    for (name, span, value) in described {
        check_name(name, &span)?;
        if boxes::is_known(name) {
            return Err(Fault::new(
                span,
                "this is the name of a preset; take another",
            ));
        }
        topology = boxes.add((name, span, value), topology)?;
    }
    let hosts = fields.read("hosts", |it| it.named())?.unwrap_or_default();
    if hosts.is_empty() {
        return Err(Fault::new(
            0..0,
            "a scenario needs hosts, such as [hosts.a]",
        ));
    }
    let mut listeners = Vec::new();
    for (name, span, value) in hosts {
        check_name(name, &span)?;
        let fields = value.fields(&schema::HOST)?;
        let mut host = HostSpec::new(name);
        if let Some(link) = fields.read("link", links::read)? {
            host = host.link(link);
        }
        let behind = fields.read("behind", |it| boxes.behind(&it))?;
        let behind = behind.unwrap_or_default();
        host = behind.own.into_iter().fold(host, HostSpec::behind);
        if let Some(shared) = behind.shared {
            host = host.behind_shared(shared);
        }
        topology = topology.host(host);
        let ports = fields.read("listen", |it| it.list())?.unwrap_or_default();
        for port in ports {
            let listener = (name.to_owned(), port.port()?);
            if listeners.contains(&listener) {
                return Err(port.fault("the host listens on that port already"));
            }
            listeners.push(listener);
        }
    }
    Ok((topology, listeners))
}

fn check_name(name: &str, span: &std::ops::Range<usize>) -> Result<(), Fault> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if name.is_empty() || !name.chars().all(is_word) {
        let message = "names are made of letters, digits, - and _";
        return Err(Fault::new(span.clone(), message));
    }
    Ok(())
}

impl<'t> Boxes<'t> {
    fn add(&mut self, named: Named<'t>, topology: Topology) -> Result<Topology, Fault> {
        let (name, span, value) = named;
        let fields = value.fields(&schema::BOX)?;
        let specs = boxes::read(&fields, &value)?;
        let shared = fields.read("shared", |it| it.boolean())?;
        if shared != Some(true) {
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
            return Err(Fault::new(span, message));
        };
        let mut described = BoxSpec::new(name, *spec);
        if let Some(link) = fields.read("link", links::read)? {
            described = described.link(link);
        }
        if let Some(count) = fields.read("addresses", |it| it.integer(1, 100))? {
            described = described.addresses(count as u8);
        }
        if let Some(above) = fields.get("behind") {
            let above_name = above.text()?;
            if !self.shared.contains(&above_name) {
                let hint = super::fields::hint(above_name, &self.shared);
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
        for value in value.list()? {
            if let Some(shared) = behind.shared {
                return Err(value.fault(format!(
                    "nothing can come after the shared box {shared:?}: what it is behind, \
                     [boxes.{shared}] says"
                )));
            }
            if !value.is_text() {
                let fields = value.fields(&schema::OWN_BOX)?;
                behind.own.extend(boxes::read(&fields, &value)?);
                continue;
            }
            let name = value.text()?;
            if self.shared.contains(&name) {
                behind.shared = Some(name);
            } else if let Some(specs) = self.own.get(name) {
                behind.own.extend(specs);
            } else {
                let own = self.own.keys().chain(&self.shared);
                let more: Vec<_> = own.copied().collect();
                behind.own.extend(boxes::by_name(&value, &more)?);
            }
        }
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

fn read_gates(
    fields: &Fields<'_>,
    mut topology: Topology,
    mut world: World,
) -> Result<Topology, Fault> {
    let gates = fields.read("gates", |it| it.list())?.unwrap_or_default();
    for value in gates {
        let fields = value.fields(&schema::GATE)?;
        let pattern = |name| -> Result<(PacketPattern, Value<'_>), Fault> {
            let text = the(&fields, name, &value)?;
            let pattern = text.text()?.parse();
            let pattern =
                pattern.map_err(|error: crate::GateError| text.fault(error.to_string()))?;
            Ok((pattern, text))
        };
        let ((hold, hold_text), (until, until_text)) = (pattern("hold")?, pattern("until")?);
        for (pattern, text) in [(&hold, hold_text), (&until, until_text)] {
            let gate = Gate::new(pattern.clone(), pattern.clone());
            let added = world.add_gate(&gate);
            added.map_err(|error| text.fault(error.to_string()))?;
        }
        let mut gate = Gate::new(hold, until);
        if let Some(limit) = fields.read("limit", |it| it.duration())? {
            gate = gate.limit(limit);
        }
        topology = topology.gate(gate);
    }
    Ok(topology)
}
