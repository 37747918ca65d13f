//! Links of a scenario.

use std::time::Duration;

use super::{
    error::Fault,
    fields::{Fields, Value},
    schema,
};
use crate::link::{BurstLoss, LinkSpec};

/// What waits for a link with a rate unless told otherwise, in bytes.
const QUEUE: u32 = 64 * 1024;

/// Reads a link from its table.
pub(super) fn read(value: &Value<'_>) -> Result<LinkSpec, Fault> {
    let fields = value.fields(&schema::LINK)?;
    let mut link = LinkSpec::delay(fields.or("delay", Duration::ZERO, Value::duration)?)
        .jitter(fields.or("jitter", Duration::ZERO, Value::duration)?)
        .loss(fields.or("loss", 0.0, Value::probability)?)
        .duplicating(fields.or("duplicating", 0.0, Value::probability)?);
    if let Some(bursts) = fields.read("burst_loss", bursts)? {
        link = link.burst_loss(bursts);
    }
    if fields.or("reordering", false, Value::boolean)? {
        link = link.reordering();
    }
    link = capacity(link, &fields)?;
    if let Some(outage) = fields.get("outage") {
        let fields = outage.fields(&schema::OUTAGE)?;
        let from = fields.or("from", Duration::ZERO, Value::duration)?;
        link = link.outage(from, fields.need("until")?.duration()?);
    }
    link.check()
        .map_err(|error| value.fault(format!("this link cannot be: {error}")))?;
    Ok(link)
}

fn capacity(mut link: LinkSpec, fields: &Fields<'_>) -> Result<LinkSpec, Fault> {
    match (fields.get("rate"), fields.get("queue")) {
        (Some(rate), _) => {
            let queue = fields.or("queue", QUEUE, Value::size)?;
            link = link.rate(rate.rate()?, queue);
        }
        (None, Some(queue)) => return Err(queue.fault("only a link with a `rate` has a queue")),
        (None, None) => {}
    }
    let mtu = |it: &Value<'_>| it.integer(68, u16::MAX.into()).map(|mtu| mtu as u16);
    match (fields.get("mtu"), fields.get("silent_mtu")) {
        (Some(_), Some(silent)) => {
            Err(silent.fault("a link has either an `mtu` or a `silent_mtu`"))
        }
        (Some(it), None) => Ok(link.mtu(mtu(&it)?)),
        (None, Some(it)) => Ok(link.silent_mtu(mtu(&it)?)),
        (None, None) => Ok(link),
    }
}

fn bursts(value: &Value<'_>) -> Result<BurstLoss, Fault> {
    let fields = value.fields(&schema::BURST_LOSS)?;
    Ok(BurstLoss {
        enter: fields.need("enter")?.probability()?,
        leave: fields.need("leave")?.probability()?,
        loss: fields.or("loss", 1.0, Value::probability)?,
    })
}
