//! `netns-lab matrix`.

use std::{fs, num::NonZero, path::Path, process::ExitCode, thread};

use anyhow::{Context as _, Result, bail, ensure};
use netns_lab::{
    matrix::{self, Ground, Kind, MAX_LADDERS, Options},
    preset,
    report::{Cell, Expected, Report, Standing},
};
use netns_lab_cli::P2pconnect;
use serde_json::{Value, json};

use crate::{
    arguments::{Engine, Grounds, MatrixArguments},
    chain, output,
    progress::Bar,
};

pub(crate) fn main(arguments: &MatrixArguments) -> Result<ExitCode> {
    let kinds = kinds(arguments)?;
    let grounds: &[Ground] = match arguments.ground {
        Grounds::Sim => &[Ground::VirtualTime],
        Grounds::Netns => &[Ground::Namespaces],
        Grounds::Both => &[Ground::VirtualTime, Ground::Namespaces],
    };
    if arguments.ground != Grounds::Sim
        && let Some(code) = netns_lab::isolate()?
    {
        return Ok(code);
    }
    let mut whole: Option<Report> = None;
    for ground in grounds {
        let report = run(arguments, &kinds, *ground)?;
        match &mut whole {
            None => whole = Some(report),
            Some(whole) => whole.join(report),
        }
    }
    let Some(mut report) = whole else {
        bail!("there is no ground");
    };
    report.path = "20 ms from each peer to the core, 1 ms from the server".into();
    write(arguments, &report)?;
    output::say(&report.summary())?;
    conclude(&report)
}

fn kinds(arguments: &MatrixArguments) -> Result<Vec<Kind>> {
    let mut kinds: Vec<Kind> = if arguments.kinds.is_empty() {
        preset::all().iter().map(Kind::from).collect()
    } else {
        let names = arguments.kinds.iter();
        names
            .map(|name| chain::parse(name))
            .collect::<Result<_>>()?
    };
    if arguments.ground != Grounds::Sim && arguments.engine == Engine::Netfilter {
        let netfilter = netns_lab::Engine::Netfilter;
        kinds.retain(|kind| {
            let mut checked = kind
                .chain
                .iter()
                .map(|nat| netfilter.check(&kind.name, nat));
            match checked.find_map(Result::err) {
                Some(error) => output::note(&format!("left out: {error}")),
                None => return true,
            }
            false
        });
    }
    ensure!(!kinds.is_empty(), "no kinds are left for the matrix");
    Ok(kinds)
}

fn run(arguments: &MatrixArguments, kinds: &[Kind], ground: Ground) -> Result<Report> {
    let name = match ground {
        Ground::VirtualTime => "virtual time",
        Ground::Namespaces => "namespaces",
    };
    let captures = arguments.pcap.as_ref().map(|directory| {
        let directory = directory.join(name.replace(' ', "-"));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        Ok::<_, anyhow::Error>(directory)
    });
    let processors = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let (labs, warning) = labs(arguments.labs, ground, processors);
    if let Some(warning) = warning {
        output::note(&warning);
    }
    let options = Options {
        kinds: kinds.to_vec(),
        runs: arguments.runs,
        seed: arguments.seed,
        ground,
        engine: arguments.engine.into(),
        workers: Some(labs),
        captures: captures.transpose()?,
        max_ladders: if arguments.ladders { MAX_LADDERS } else { 0 },
        ..Options::default()
    };
    let mut bar = Bar::new(name);
    let matrix = matrix::run(&options, &P2pconnect, |progress| {
        let [from, to] = [progress.dialler, progress.listener].map(|it| &kinds[it].name);
        bar.show(progress.done, progress.total, &format!("{from} dials {to}"));
    })?;
    let drawn = matrix.ladders.len();
    if ground == Ground::VirtualTime && arguments.ladders && matrix.shown.len() > drawn {
        output::note(&format!(
            "{drawn} of {} runs that are worth a look are drawn; name fewer --kinds to see others",
            matrix.shown.len()
        ));
    }
    Ok(matrix.into_report(&options))
}

fn write(arguments: &MatrixArguments, report: &Report) -> Result<()> {
    let write = |file: &Path, text: String| {
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        output::note(&format!("written: {}", file.display()));
        Ok::<_, anyhow::Error>(())
    };
    if let Some(file) = &arguments.report {
        write(file, report.html())?;
    }
    if let Some(file) = &arguments.json {
        write(file, format!("{:#}\n", json(report)))?;
    }
    Ok(())
}

/// Returns how many labs run at a time on so many processors, and a warning if that makes the times
/// those of a busy machine.
fn labs(
    wanted: Option<NonZero<usize>>,
    ground: Ground,
    processors: NonZero<usize>,
) -> (NonZero<usize>, Option<String>) {
    let fitting = match ground {
        // One thread and no clock but its own.
        Ground::VirtualTime => return (wanted.unwrap_or(processors), None),
        // Beside the hosts of a lab there is the thread that carries its packets.
        Ground::Namespaces => NonZero::new(processors.get() / 2).unwrap_or(NonZero::<usize>::MIN),
    };
    let labs = wanted.unwrap_or(fitting);
    let warning = (labs > fitting).then(|| {
        format!(
            "{labs} labs at a time are more than this machine carries at their pace: whether pairs \
             connect is true, the times are too long. --labs {fitting} measures them."
        )
    });
    (labs, warning)
}

fn json(report: &Report) -> Value {
    let name = |index: usize| report.kinds.get(index).map(|kind| kind.name.as_str());
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let cell = |cell: &Cell| {
        json!({
            "dialler": name(cell.dialler),
            "listener": name(cell.listener),
            "runs": cell.runs,
            "successes": cell.successes,
            "median_ms": cell.median.map(ms),
            "p95_ms": cell.p95.map(ms),
            "worst_ms": cell.worst.map(ms),
            "bound_ms": cell.bound.map(ms),
            "ratio": cell.ratio(),
            "gave_up_ms": cell.gave_up.map(ms),
            "standing": cell.standing().name(),
            "how": cell.how.iter().map(|(way, count)| (way.clone(), json!(count)))
                .collect::<serde_json::Map<_, _>>(),
            "expected_chance": match cell.expected {
                Expected::Certain => 1.0,
                Expected::Chance(chance) => chance,
                Expected::Impossible => 0.0,
            },
            "reason": cell.reason,
            "failure": cell.failure,
            "contradicts_oracle": contradicts(cell),
        })
    };
    let series = report.series.iter().map(|series| {
        json!({
            "name": series.name,
            "ground": series.ground,
            "took_s": series.took.as_secs_f64(),
            "cells": series.cells.iter().map(cell).collect::<Vec<_>>(),
        })
    });
    json!({
        "seed": report.seed,
        "kinds": report.kinds.iter().map(|kind| json!({"name": kind.name, "title": kind.title}))
            .collect::<Vec<_>>(),
        "series": series.collect::<Vec<_>>(),
    })
}

/// Returns whether a cell did otherwise than the oracle is certain of.
fn contradicts(cell: &Cell) -> bool {
    let standing = cell.standing();
    let seldom = matches!(standing, Standing::Failed | Standing::TooSeldom);
    standing == Standing::Alarm || cell.expected == Expected::Certain && seldom
}

fn conclude(report: &Report) -> Result<ExitCode> {
    let short = report.work_list().len() + report.alarms().len();
    let replay = format!("--seed {} runs it again", report.seed);
    if short == 0 {
        output::say(&format!(
            "\nEvery pair did what the oracle and the path let expect; {replay}."
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::say(&format!(
        "\n{short} pairs did otherwise than the oracle and the path let expect, see the lists \
         above; {replay}."
    ))?;
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many labs there are where so many are wanted, and whether that is warned of.
    fn labs_of(wanted: Option<usize>, ground: Ground, processors: usize) -> (usize, bool) {
        let count = |it| NonZero::new(it).expect("a test has at least one");
        let (labs, warning) = labs(wanted.map(count), ground, count(processors));
        (labs.get(), warning.is_some())
    }

    #[test]
    fn labs_between_real_kernels_have_two_processors_each_or_a_warning() {
        let ground = Ground::Namespaces;
        assert_eq!(labs_of(None, ground, 1), (1, false));
        assert_eq!(labs_of(None, ground, 2), (1, false));
        assert_eq!(labs_of(None, ground, 8), (4, false));
        assert_eq!(labs_of(Some(4), ground, 8), (4, false));
        assert_eq!(labs_of(Some(5), ground, 8), (5, true));
        assert_eq!(labs_of(Some(2), ground, 2), (2, true));
    }

    #[test]
    fn labs_in_virtual_time_have_their_own_clocks() {
        let ground = Ground::VirtualTime;
        assert_eq!(labs_of(None, ground, 2), (2, false));
        assert_eq!(labs_of(Some(64), ground, 2), (64, false));
    }
}
