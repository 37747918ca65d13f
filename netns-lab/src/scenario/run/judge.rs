//! What was expected of a run, and what came of it.

use std::{net::IpAddr, time::Duration};

use super::{DialEnd, Outcome, ScenarioRun, Seen};
use crate::{
    fabric::CORE,
    packet::IpHeader,
    record::{Event, EventLog},
    report::{ColumnKind, Ladder, LadderPlace},
    scenario::{Play, Scenario},
    topology::{Plan, Planned},
};

pub(super) fn judge(scenario: &Scenario, seen: Seen, seed: u64) -> ScenarioRun {
    let (outcome, how, after) = match &seen.punch {
        Some(Ok((how, after))) => (Outcome::Connected, Some(how.clone()), Some(*after)),
        Some(Err(why)) => (Outcome::Failed(why.clone()), None, None),
        None => of_dials(scenario, &seen),
    };
    let title = format!("{}, seed {seed}", scenario.title);
    let places = places(scenario);
    let mut run = ScenarioRun {
        outcome,
        how,
        after,
        ladder: Ladder::from_log(&title, &places, &seen.log),
        dials: seen.dials,
        log: seen.log,
        unmet: Vec::new(),
    };
    run.unmet = unmet(scenario, &run);
    run
}

fn of_dials(scenario: &Scenario, seen: &Seen) -> (Outcome, Option<String>, Option<Duration>) {
    let Play::Dials(dials) = &scenario.play else {
        return (Outcome::Failed("nothing was done".into()), None, None);
    };
    let lacking = dials
        .iter()
        .zip(&seen.dials)
        .find(|(_, run)| run.end != DialEnd::Connected);
    if let Some((dial, run)) = lacking {
        let (from, to, end) = (&dial.from, &dial.to, run.end.word());
        let why = format!("the dial from {from} to {to} was {end}");
        return (Outcome::Failed(why), None, None);
    }
    let how = seen.dials.first().and_then(|run| run.how.clone());
    let first = dials.first().map_or(Duration::ZERO, |dial| dial.at);
    let last = seen.dials.iter().filter_map(|run| run.at).max();
    let after = last.map(|last| last.saturating_sub(first));
    (Outcome::Connected, how, after)
}

fn unmet(scenario: &Scenario, run: &ScenarioRun) -> Vec<String> {
    let mut unmet = Vec::new();
    let expect = &scenario.expect;
    match (expect.connected, &run.outcome) {
        (Some(true), Outcome::Failed(why)) => unmet.push(format!("it did not connect: {why}")),
        (Some(false), Outcome::Connected) => unmet.push("it connected".into()),
        (Some(_) | None, _) => {}
    }
    if let Some(how) = &run.how
        && !expect.how.is_empty()
        && !expect.how.contains(how)
    {
        let wanted = expect.how.join(" or ");
        unmet.push(format!("it came about by {how}, not by {wanted}"));
    }
    if let (Some(within), Some(after)) = (expect.within, run.after)
        && after > within
    {
        unmet.push(format!("it took {after:?}, longer than {within:?}"));
    }
    let leaked = leaks(&run.log);
    if let Some(expected) = expect.leaks
        && leaked != expected
    {
        unmet.push(format!(
            "{leaked} packets with private sources came to the core, not {expected}"
        ));
    }
    if let Play::Dials(dials) = &scenario.play {
        for (dial, run) in dials.iter().zip(&run.dials) {
            let (from, to) = (&dial.from, &dial.to);
            if let Some(wanted) = dial.expect.filter(|wanted| *wanted != run.end) {
                let (end, wanted) = (run.end.word(), wanted.word());
                unmet.push(format!(
                    "the dial from {from} to {to} was {end}, not {wanted}"
                ));
            }
            if let Some(wanted) = dial.delivered.filter(|wanted| *wanted != run.delivered) {
                let fate = if wanted { "has not come" } else { "has come" };
                unmet.push(format!("what {from} sent to {to} {fate}"));
            }
        }
    }
    unmet
}

/// Counts the packets with private sources on links to the core.
fn leaks(log: &EventLog) -> usize {
    let leaks = log.entries().iter().filter(|entry| {
        let is_sent = &*entry.to == CORE && matches!(entry.event, Event::Entered { .. });
        let header = IpHeader::read(&entry.packet);
        is_sent && header.is_some_and(|header| is_private(header.source))
    });
    leaks.count()
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// The columns: what takes part, from the first host outwards to the core, and inwards to the
/// others.
fn places(scenario: &Scenario) -> Vec<LadderPlace> {
    let plan = Plan::new(&scenario.topology, 0);
    let hosts: Vec<&str> = match &scenario.play {
        Play::Punch(hosts) => vec![&hosts.dialler, &hosts.listener],
        Play::Dials(dials) => dials
            .iter()
            .flat_map(|dial| [dial.from.as_str(), dial.to.as_str()])
            .collect(),
    };
    let mut order: Vec<Option<usize>> = Vec::new();
    for name in hosts {
        let host = plan.nodes.iter().position(|node| &*node.name == name);
        let Some(host) = host.filter(|host| !order.contains(&Some(*host))) else {
            continue;
        };
        let mut chain: Vec<_> = std::iter::once(host)
            .chain(plan.above(host))
            .map(Some)
            .collect();
        chain.push(None);
        if !order.is_empty() {
            chain.reverse();
        }
        let fresh: Vec<_> = chain.into_iter().filter(|it| !order.contains(it)).collect();
        order.extend(fresh);
    }
    let place = |node: &Option<usize>| match node.map(|node| &plan.nodes[node]) {
        None => LadderPlace {
            name: CORE.into(),
            kind: ColumnKind::Core,
            above: None,
        },
        Some(node) => LadderPlace {
            name: node.name.to_string(),
            kind: match node.kind {
                Planned::Host => ColumnKind::Host,
                Planned::Box(_) => ColumnKind::Nat,
            },
            above: order.iter().position(|other| *other == node.parent),
        },
    };
    order.iter().map(place).collect()
}
