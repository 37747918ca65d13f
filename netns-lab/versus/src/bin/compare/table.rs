//! The results as Markdown and as a list.

use std::fmt::Write as _;

use anyhow::Result;
use netns_lab::oracle::{self, Outcome as Oracle};

use crate::{
    projects::Project,
    punching::{Cells, Plan},
    rows::Row,
    run::Outcome,
    throughput::{self, Course, Measured},
};

/// What a dial measures, with the names of its numbers.
const COSTS: [(&str, &str); 3] = [
    ("dialler, warm", "warm_cpu_ms"),
    ("dialler, with its start", "cold_cpu_ms"),
    ("listener", "accept_cpu_ms"),
];

/// Returns what was compared, where and when.
pub(crate) fn heading(version: &str) -> Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cores = std::thread::available_parallelism()?;
    Ok(format!(
        "Made by `netns-lab/versus/run`, with p2pconnect as of {version}, on Linux {} with {cores} \
         cores.\n",
        kernel.trim()
    ))
}

/// Returns the tables of success, time and processor time.
pub(crate) fn punching(plan: &Plan, cells: &Cells) -> String {
    let mut text = format!(
        "\n## Success and time\n\n\
         Median milliseconds until a usable stream, **warm / cold**; {} attempts each, half of \
         them each way round. Where some failed, what worked is counted in front; *none* failed \
         all. The oracle judges by the behaviours of the NATs alone.\n\n\
         | between | oracle | ",
        plan.runs * 2
    );
    let names = plan.projects.iter().map(|it| it.name);
    text += &format!("{} |\n", names.collect::<Vec<_>>().join(" | "));
    text += &rule(plan.projects.len() + 2);
    for (row, cells) in plan.rows.iter().zip(cells) {
        let cells: Vec<_> = cells.iter().map(|outcomes| cell(outcomes)).collect();
        let name = row.name();
        writeln!(
            text,
            "| {name} | {} | {} |",
            expected(row),
            cells.join(" | ")
        )
        .ok();
    }
    text += &format!("| **attempts that worked** | | {} |\n", totals(plan, cells));
    text += "\n## What each calls usable, and what it costs\n\n\
             Milliseconds of processor time for a dial that worked, median over all of the above.\n\n\
             | project | usable means | security |";
    for (title, _) in COSTS {
        text += &format!(" {title} |");
    }
    text.push('\n');
    text += &rule(3 + COSTS.len());
    for (number, project) in plan.projects.iter().enumerate() {
        let Project {
            title,
            usable,
            security,
            ..
        } = project;
        write!(text, "| {title} | {usable} | {security} |").ok();
        for (_, name) in COSTS {
            let all = cells.iter().flat_map(|row| &row[number]);
            let cost = median(all, name).map_or("-".to_owned(), |cost| format!("{cost:.1}"));
            write!(text, " {cost} |").ok();
        }
        text.push('\n');
    }
    text
}

/// Returns the table of throughput.
pub(crate) fn throughput(plan: &throughput::Plan, measured: &Measured) -> String {
    let mut text = format!(
        "\n## Throughput\n\n\
         Megabytes a second, one way, medians of {} turns of {} s. The last two columns are of the \
         plain veth: megabytes for each second of processor time, which does not depend on what \
         else the machine does.\n\n| project |",
        plan.rounds, plan.seconds
    );
    for course in Course::ALL {
        text += &format!(" {} |", course.title());
    }
    text += " sending | receiving |\n";
    text += &rule(Course::ALL.len() + 3);
    for (number, project) in plan.projects.iter().enumerate() {
        write!(text, "| {} |", project.title).ok();
        for turns in measured {
            let rate = rate(&turns[number], "time_ms");
            let rate = rate.map_or("-".to_owned(), |rate| format!("{rate:.0}"));
            write!(text, " {rate} |").ok();
        }
        for clock in ["send_cpu_ms", "receive_cpu_ms"] {
            let rate = rate(&measured[0][number], clock);
            let rate = rate.map_or("-".to_owned(), |rate| format!("{rate:.0}"));
            write!(text, " {rate} |").ok();
        }
        text.push('\n');
    }
    text
}

/// Returns every attempt on a line of its own, with its numbers or its reason.
pub(crate) fn attempts(plan: &Plan, cells: &Cells) -> String {
    let mut text = String::new();
    for (row, cells) in plan.rows.iter().zip(cells) {
        for (project, outcomes) in plan.projects.iter().zip(cells) {
            for outcome in outcomes {
                let said = match outcome {
                    Ok(values) => values
                        .iter()
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect::<Vec<_>>()
                        .join(" "),
                    Err(reason) => format!("failed: {reason}"),
                };
                writeln!(text, "{}\t{}\t{said}", row.name(), project.name).ok();
            }
        }
    }
    text
}

/// Returns how many of the outcomes are streams.
pub(crate) fn successes(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| outcome.is_ok()).count()
}

/// Returns the median of a number over the outcomes that are streams.
pub(crate) fn median<'o>(
    outcomes: impl IntoIterator<Item = &'o Outcome>,
    name: &str,
) -> Option<f64> {
    let value = |outcome: &Outcome| outcome.as_ref().ok()?.get(name).copied();
    middle(outcomes.into_iter().filter_map(value).collect())
}

/// Returns the median of megabytes by second of a clock.
pub(crate) fn rate(outcomes: &[Outcome], clock: &str) -> Option<f64> {
    let rate = |outcome: &Outcome| {
        let values = outcome.as_ref().ok()?;
        Some(values.get("bytes")? / 1e3 / values.get(clock)?)
    };
    middle(outcomes.iter().filter_map(rate).collect())
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn cell(outcomes: &[Outcome]) -> String {
    let (all, good) = (outcomes.len(), successes(outcomes));
    let time = |name| median(outcomes, name).map(|time| format!("{time:.0}"));
    let (Some(warm), Some(cold)) = (time("warm_ms"), time("cold_ms")) else {
        return "*none*".into();
    };
    if good == all {
        return format!("{warm} / {cold}");
    }
    format!("**{good} of {all}** {warm} / {cold}")
}

fn totals(plan: &Plan, cells: &Cells) -> String {
    let total = |number: usize| {
        let good: usize = cells.iter().map(|row| successes(&row[number])).sum();
        let all: usize = cells.iter().map(|row| row[number].len()).sum();
        format!("**{good} of {all}**")
    };
    (0..plan.projects.len())
        .map(total)
        .collect::<Vec<_>>()
        .join(" | ")
}

fn expected(row: &Row) -> String {
    match oracle::punchable(&[row.0.nat], &[row.1.nat]).outcome {
        Oracle::Certain { .. } => "certain".into(),
        Oracle::Chance { probability, .. } => format!("{:.0} %", probability * 100.0),
        Oracle::Impossible { .. } => "no".into(),
    }
}

fn rule(columns: usize) -> String {
    format!("|{}\n", " --- |".repeat(columns))
}
