//! Links of a scenario.

use super::boxes::the;
use super::error::Fault;
use super::fields::{Fields, Value};
use super::schema;
use crate::link::{BurstLoss, LinkSpec};

/// What waits for a link with a rate unless told otherwise, in bytes.
const QUEUE: u32 = 64 * 1024;

/// Reads a link from its table.
pub(super) fn read(value: Value<'_>) -> Result<LinkSpec, Fault> {
    let fields = value.fields(&schema::LINK)?;
    let delay = fields.read("delay", |it| it.duration())?;
    let mut link = LinkSpec::delay(delay.unwrap_or_default());
    if let Some(most) = fields.read("jitter", |it| it.duration())? {
        link = link.jitter(most);
    }
    if let Some(loss) = fields.read("loss", |it| it.probability())? {
        link = link.loss(loss);
    }
    if let Some(bursts) = fields.read("burst_loss", |it| bursts(&it))? {
        link = link.burst_loss(bursts);
    }
    if fields.read("reordering", |it| it.boolean())? == Some(true) {
        link = link.reordering();
    }
    if let Some(chance) = fields.read("duplicating", |it| it.probability())? {
        link = link.duplicating(chance);
    }
    link = capacity(link, &fields)?;
    if let Some(outage) = fields.get("outage") {
        let fields = outage.fields(&schema::OUTAGE)?;
        let from = fields.read("from", |it| it.duration())?.unwrap_or_default();
        let until = the(&fields, "until", &outage)?.duration()?;
        link = link.outage(from, until);
    }
    link.check()
        .map_err(|error| value.fault(format!("this link cannot be: {error}")))?;
    Ok(link)
}

fn capacity(mut link: LinkSpec, fields: &Fields<'_>) -> Result<LinkSpec, Fault> {
    match (fields.get("rate"), fields.get("queue")) {
        (Some(rate), queue) => {
            let queue = queue.map(|it| it.size()).transpose()?;
            link = link.rate(rate.rate()?, queue.unwrap_or(QUEUE));
        }
        (None, Some(queue)) => return Err(queue.fault("only a link with a `rate` has a queue")),
        (None, None) => {}
    }
    let mtu = |it: Value<'_>| it.integer(68, u16::MAX.into()).map(|mtu| mtu as u16);
    match (fields.get("mtu"), fields.get("silent_mtu")) {
        (Some(_), Some(silent)) => {
            return Err(silent.fault("a link has either an `mtu` or a `silent_mtu`"));
        }
        (Some(it), None) => link = link.mtu(mtu(it)?),
        (None, Some(it)) => link = link.silent_mtu(mtu(it)?),
        (None, None) => {}
    }
    Ok(link)
}

fn bursts(value: &Value<'_>) -> Result<BurstLoss, Fault> {
    let fields = value.fields(&schema::BURST_LOSS)?;
    let loss = fields.read("loss", |it| it.probability())?;
    Ok(BurstLoss {
        enter: the(&fields, "enter", value)?.probability()?,
        leave: the(&fields, "leave", value)?.probability()?,
        loss: loss.unwrap_or(1.0),
    })
}
