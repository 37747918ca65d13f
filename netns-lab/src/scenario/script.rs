//! What happens in a scenario, and what is to come of it.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Change, Dial, Expect, Play, Punch, Step,
    error::Fault,
    fields::{Fields, Value, hint},
    run::DialEnd,
    schema,
};
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
        one_of(value, "host", &self.hosts)
    }

    /// Reads what the hosts do.
    pub(super) fn play(&self, fields: &Fields<'_>) -> Result<Play, Fault> {
        if fields.get("dials").is_none() {
            let punch = fields.or("punch", Punch::default(), |it| self.punch(it))?;
            return Ok(Play::Punch(punch));
        }
        if let Some(punch) = fields.get("punch") {
            return Err(punch.fault("a scenario has either dials or a punch"));
        }
        let mut dials = fields.each("dials", |it| self.dial(it))?;
        dials.sort_by_key(|dial| dial.at);
        Ok(Play::Dials(dials))
    }

    fn punch(&self, value: &Value<'_>) -> Result<Punch, Fault> {
        let fields = value.fields(&schema::PUNCH)?;
        let usual = Punch::default();
        let punch = Punch {
            dialler: fields.or("dialler", usual.dialler, |it| self.host(it))?,
            listener: fields.or("listener", usual.listener, |it| self.host(it))?,
            server: fields.or("server", usual.server, |it| self.host(it))?,
        };
        let all = punch.hosts();
        if BTreeSet::from(all).len() < all.len() {
            return Err(value.fault("a punch needs three different hosts"));
        }
        if let Some(lacking) = punch.lacking(&self.hosts) {
            return Err(value.fault(format!("there is no host {lacking:?} for it")));
        }
        Ok(punch)
    }

    fn dial(&self, value: &Value<'_>) -> Result<Dial, Fault> {
        let fields = value.fields(&schema::DIAL)?;
        let (from, to) = (fields.need("from")?, fields.need("to")?);
        let (from, to_host) = (self.host(&from)?, self.host(&to)?);
        if from == to_host {
            return Err(to.fault("a host does not dial itself"));
        }
        let mut send_at = fields.each("send_at", Value::duration)?;
        send_at.sort_unstable();
        Ok(Dial {
            at: fields.or("at", Duration::ZERO, Value::duration)?,
            from,
            to: to_host,
            from_port: fields.or("from_port", PORT, Value::port)?,
            to_port: fields.or("to_port", PORT, Value::port)?,
            send_at,
            expect: fields.read("expect", |it| it.word(&DialEnd::WORDS))?,
            delivered: fields.read("delivered", Value::boolean)?,
        })
    }

    /// Reads what happens to the lab.
    pub(super) fn steps(&self, fields: &Fields<'_>) -> Result<Vec<Step>, Fault> {
        let mut steps = fields.each("steps", |it| self.step(it))?;
        steps.sort_by_key(|step| step.at);
        Ok(steps)
    }

    fn step(&self, value: &Value<'_>) -> Result<Step, Fault> {
        let fields = value.fields(&schema::STEP)?;
        let at = fields.need("at")?.duration()?;
        let changes = ["reboot", "link_down", "link_up"].map(|name| fields.get(name));
        let (change, place) = match changes {
            [Some(place), None, None] => (Change::Reboot, one_of(&place, "box", &self.boxes)?),
            [None, Some(place), None] => (Change::LinkDown, self.place(&place)?),
            [None, None, Some(place)] => (Change::LinkUp, self.place(&place)?),
            _ => {
                let message = "a step does one of `reboot`, `link_down` and `link_up`";
                return Err(value.fault(message));
            }
        };
        Ok(Step { at, place, change })
    }

    fn place(&self, value: &Value<'_>) -> Result<String, Fault> {
        one_of(value, "host or box", self.hosts.iter().chain(&self.boxes))
    }
}

fn one_of<'n>(
    value: &Value<'_>,
    what: &str,
    known: impl IntoIterator<Item = &'n String>,
) -> Result<String, Fault> {
    let name = value.text()?;
    let known: Vec<_> = known.into_iter().map(String::as_str).collect();
    if known.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(value.fault(format!("there is no such {what}{}", hint(name, &known))))
}

/// Reads what is to come of the scenario.
pub(super) fn expect(value: &Value<'_>) -> Result<Expect, Fault> {
    let fields = value.fields(&schema::EXPECT)?;
    let results = [("connected", true), ("failed", false)];
    let ways = ["simultaneous-open", "accepted", "connected"].map(|way| (way, way));
    let way = |it: &Value<'_>| it.word(&ways).map(str::to_owned);
    let expect = Expect {
        connected: fields.read("result", |it| it.word(&results))?,
        how: fields.or("how", Vec::new(), |it| match it.is_text() {
            true => Ok(vec![way(it)?]),
            false => it.each(way),
        })?,
        within: fields.read("within", Value::duration)?,
        leaks: fields.read("leaks", |it| it.integer(0, 1 << 32).map(|it| it as usize))?,
    };
    if expect.connected == Some(false)
        && let Some(span) = fields.key("how").or_else(|| fields.key("within"))
    {
        let message = "what fails has neither a way nor a time of connecting";
        return Err(Fault::new(span, message));
    }
    Ok(expect)
}
