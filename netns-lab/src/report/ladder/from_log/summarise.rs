//! Records of thousands of packets, such as of guesses at a NAT's ports, cut down to what can be
//! read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::super::{Fate, MAX_STEPS, Step, StepKind, Tone};

/// Of that many steps some are kept for what is said about the rest.
const SHOWN: usize = MAX_STEPS - 50;

/// Returns the steps, or if they are too many, those of the journeys that came to a host, of the
/// first others, and the number of the rest.
pub(super) fn summarised(steps: Vec<(usize, Step)>, came_to_host: &[bool]) -> Vec<Step> {
    if steps.len() <= SHOWN {
        return steps.into_iter().map(|(_, step)| step).collect();
    }
    let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
    for (journey, _) in &steps {
        *lengths.entry(*journey).or_default() += 1;
    }
    // Journeys are numbered by their start.
    let mut by_rank: Vec<_> = lengths.into_iter().collect();
    by_rank.sort_by_key(|(journey, _)| (!came_to_host.get(*journey).unwrap_or(&false), *journey));
    let mut room = SHOWN;
    let mut shown = BTreeSet::new();
    for (journey, length) in by_rank {
        if length > room {
            break;
        }
        room -= length;
        shown.insert(journey);
    }
    let mut ends: BTreeMap<usize, (usize, String)> = BTreeMap::new();
    let mut last = Duration::ZERO;
    let mut kept = Vec::new();
    for (journey, step) in steps {
        last = last.max(step.at);
        if shown.contains(&journey) {
            kept.push(step);
        } else {
            ends.insert(journey, end(&step));
        }
    }
    kept.sort_by_key(|step| step.at);
    kept.extend(rest(ends, last));
    kept
}

/// Returns where a step ends, and how, without the endpoints in it.
fn end(step: &Step) -> (usize, String) {
    match &step.kind {
        StepKind::Note { column, text, .. } => {
            let common: String = text
                .chars()
                .take_while(|one| !one.is_ascii_digit() && *one != '[')
                .collect();
            (*column, common.trim_end().to_owned())
        }
        StepKind::Arrow { to, fate, .. } => {
            let how = match fate {
                Fate::Carried => "still on their way".to_owned(),
                Fate::Lost(why) => format!("lost: {why}"),
            };
            (*to, how)
        }
    }
}

fn rest(ends: BTreeMap<usize, (usize, String)>, at: Duration) -> Vec<Step> {
    let mut counts: BTreeMap<(usize, String), usize> = BTreeMap::new();
    for end in ends.into_values() {
        *counts.entry(end).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let more = counts
        .iter()
        .skip(40)
        .map(|(_, count)| count)
        .sum::<usize>();
    counts.truncate(40);
    if more > 0 {
        counts.push(((0, "and others".to_owned()), more));
    }
    let tone = Tone::Neutral;
    let note = |((column, how), count)| {
        let text = format!("{count} more packets not shown: {how}");
        let kind = StepKind::Note { column, text, tone };
        Step { at, kind }
    };
    counts.into_iter().map(note).collect()
}
