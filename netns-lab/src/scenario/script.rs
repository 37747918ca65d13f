//! What happens in a scenario, and what is to come of it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::boxes::the;
use super::error::Fault;
use super::fields::{Fields, Value, hint};
use super::run::DialEnd;
use super::{Change, Dial, Expect, Play, Punch, Step, schema};
use crate::topology::{Plan, Planned, Topology};

/// Where a dial comes from and goes to unless it says so.
const PORT: u16 = 4000;

/// The places of a lab, by what they are.
#[derive(Debug)]
pub(super) struct Script {
    hosts: Vec<String>,
    boxes: Vec<String>,
}

impl Script {
    /// Learns the places of a lab that has been checked.
    pub(super) fn new(topology: &Topology) -> Self {
        let (mut hosts, mut boxes) = (Vec::new(), Vec::new());
        for node in Plan::new(topology, 0).nodes {
            match node.kind {
                Planned::Host => hosts.push(node.name.to_string()),
                Planned::Box(_) => boxes.push(node.name.to_string()),
            }
        }
        Self { hosts, boxes }
    }

    fn host(&self, value: &Value<'_>) -> Result<String, Fault> {
        one_of(value, "host", self.hosts.iter())
    }

    /// Reads what the hosts do.
    pub(super) fn play(&self, fields: &Fields<'_>) -> Result<Play, Fault> {
        match (fields.get("dials"), fields.get("punch")) {
            (Some(_), Some(punch)) => Err(punch.fault("a scenario has either dials or a punch")),
            (Some(dials), None) => {
                let dials: Result<Vec<_>, _> =
                    dials.list()?.iter().map(|it| self.dial(it)).collect();
                let mut dials = dials?;
                dials.sort_by_key(|dial| dial.at);
                Ok(Play::Dials(dials))
            }
            (None, punch) => {
                let mut hosts = Punch::default();
                if let Some(value) = punch {
                    let fields = value.fields(&schema::PUNCH)?;
                    for (name, host) in [
                        ("dialler", &mut hosts.dialler),
                        ("listener", &mut hosts.listener),
                        ("server", &mut hosts.server),
                    ] {
                        if let Some(named) = fields.read(name, |it| self.host(&it))? {
                            *host = named;
                        }
                    }
                    let all = [&hosts.dialler, &hosts.listener, &hosts.server];
                    if BTreeSet::from(all).len() < all.len() {
                        return Err(value.fault("a punch needs three different hosts"));
                    }
                    if let Some(lacking) = all.into_iter().find(|it| !self.hosts.contains(it)) {
                        return Err(value.fault(format!("there is no host {lacking:?} for it")));
                    }
                }
                Ok(Play::Punch(hosts))
            }
        }
    }

    fn dial(&self, value: &Value<'_>) -> Result<Dial, Fault> {
        let fields = value.fields(&schema::DIAL)?;
        let (from, to) = (the(&fields, "from", value)?, the(&fields, "to", value)?);
        let (from, to_host) = (self.host(&from)?, self.host(&to)?);
        if from == to_host {
            return Err(to.fault("a host does not dial itself"));
        }
        let at = fields.read("at", |it| it.duration())?.unwrap_or_default();
        let times = fields.read("send_at", |it| it.list())?.unwrap_or_default();
        let times: Result<Vec<Duration>, _> = times.iter().map(Value::duration).collect();
        let mut send_at = times?;
        send_at.sort_unstable();
        let from_port = fields.read("from_port", |it| it.port())?;
        let to_port = fields.read("to_port", |it| it.port())?;
        Ok(Dial {
            at,
            from,
            to: to_host,
            from_port: from_port.unwrap_or(PORT),
            to_port: to_port.unwrap_or(PORT),
            send_at,
            expect: fields.read("expect", |it| it.word(&DialEnd::WORDS))?,
            delivered: fields.read("delivered", |it| it.boolean())?,
        })
    }

    /// Reads what happens to the lab.
    pub(super) fn steps(&self, fields: &Fields<'_>) -> Result<Vec<Step>, Fault> {
        let steps = fields.read("steps", |it| it.list())?.unwrap_or_default();
        let steps: Result<Vec<_>, _> = steps.iter().map(|it| self.step(it)).collect();
        let mut steps = steps?;
        steps.sort_by_key(|step| step.at);
        Ok(steps)
    }

    fn step(&self, value: &Value<'_>) -> Result<Step, Fault> {
        let fields = value.fields(&schema::STEP)?;
        let at = the(&fields, "at", value)?.duration()?;
        let changes = [
            ("reboot", Change::Reboot),
            ("link_down", Change::LinkDown),
            ("link_up", Change::LinkUp),
        ];
        let given: Vec<_> = changes
            .into_iter()
            .filter_map(|(name, change)| Some((fields.get(name)?, change)))
            .collect();
        let [(named, change)] = given.as_slice() else {
            let message = "a step does one of `reboot`, `link_down` and `link_up`";
            return Err(value.fault(message));
        };
        let place = match change {
            Change::Reboot => one_of(named, "box", self.boxes.iter())?,
            Change::LinkDown | Change::LinkUp => {
                one_of(named, "host or box", self.hosts.iter().chain(&self.boxes))?
            }
        };
        let change = *change;
        Ok(Step { at, place, change })
    }
}

fn one_of<'n>(
    value: &Value<'_>,
    what: &str,
    known: impl Iterator<Item = &'n String>,
) -> Result<String, Fault> {
    let name = value.text()?;
    let known: Vec<_> = known.map(String::as_str).collect();
    if known.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(value.fault(format!("there is no such {what}{}", hint(name, &known))))
}

/// Reads what is to come of the scenario.
pub(super) fn expect(value: Value<'_>) -> Result<Expect, Fault> {
    let fields = value.fields(&schema::EXPECT)?;
    let results = [("connected", true), ("failed", false)];
    let ways = ["simultaneous-open", "accepted", "connected"].map(|way| (way, way));
    let how = fields.read("how", |it| match it.is_text() {
        true => Ok(vec![it.word(&ways)?.to_owned()]),
        false => {
            let list = it.list()?;
            list.iter()
                .map(|it| Ok(it.word(&ways)?.to_owned()))
                .collect()
        }
    })?;
    let expect = Expect {
        connected: fields.read("result", |it| it.word(&results))?,
        how: how.unwrap_or_default(),
        within: fields.read("within", |it| it.duration())?,
        leaks: fields
            .read("leaks", |it| it.integer(0, 1 << 32))?
            .map(|it| it as usize),
    };
    if expect.connected == Some(false)
        && let Some(span) = fields.key("how").or_else(|| fields.key("within"))
    {
        let message = "what fails has neither a way nor a time of connecting";
        return Err(Fault::new(span, message));
    }
    Ok(expect)
}
