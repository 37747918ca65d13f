//! `netns-lab demo`.

use std::{path::PathBuf, process::ExitCode, thread, time::Duration};

use anyhow::{Context as _, Result};
use netns_lab::{
    Engine, EventLog, Lab, Topology,
    contender::{Contender as _, PunchOutcome},
    matrix::{Kind, run_seed},
    oracle,
    report::Ladder,
};
use netns_lab_cli::P2pconnect;

use crate::{
    arguments::{DemoArguments, Ground},
    chain, conversation, explain, output,
    watch::Watch,
};

/// What the ladder shows.
const TITLE: &str = "What the peers said to each other:";

/// How often one looks what has happened meanwhile.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) fn main(arguments: &DemoArguments) -> Result<ExitCode> {
    let kinds = [
        chain::parse(&arguments.dialler)?,
        chain::parse(&arguments.listener)?,
    ];
    if arguments.ground == Ground::Netns {
        let isolated = netns_lab::isolate();
        let advice = "`netns-lab demo --ground sim` needs no namespaces";
        if let Some(code) = isolated.context(advice)? {
            return Ok(code);
        }
    }
    introduce(arguments, &kinds)?;
    let seed = run_seed(arguments.seed, &kinds[0].name, &kinds[1].name, 0);
    let capture = arguments.pcap.as_deref();
    let capture = capture
        .map(|directory| explain::output_file(directory, "demo"))
        .transpose()?;
    let (outcome, ladder) = match arguments.ground {
        Ground::Sim => virtual_time(&kinds, seed, capture)?,
        Ground::Netns => namespaces(&kinds, seed, capture)?,
    };
    output::say(&format!(
        "\n{}\n{}",
        ladder.to_text(output::width()),
        explain::said(&outcome)
    ))?;
    output::say("\nNext: `netns-lab list`, `netns-lab explain A B`, `netns-lab matrix`.")?;
    Ok(if outcome.established.is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn introduce(arguments: &DemoArguments, [from, to]: &[Kind; 2]) -> Result<()> {
    let ground = match arguments.ground {
        Ground::Sim => "in virtual time",
        Ground::Netns => "between real kernels, in network namespaces",
    };
    let verdict = oracle::punchable(&from.chain, &to.chain);
    output::say(&format!(
        "Two peers want one TCP connection, {ground}; --seed {}.\n\n  \
         the dialler is behind   {} ({})\n  the listener is behind  {} ({})\n\n\
         The oracle calls the dialler a, and the listener b: {verdict}\n\n\
         First each asks a server how its NAT makes it appear; then both dial. What the NATs do:\n",
        arguments.seed, from.name, from.title, to.name, to.title
    ))
}

fn virtual_time(
    kinds: &[Kind; 2],
    seed: u64,
    capture: Option<PathBuf>,
) -> Result<(PunchOutcome, Ladder)> {
    let (outcome, log) = explain::dial(kinds, seed)?;
    let topology = explain::topology(kinds);
    let watch = watch(&topology);
    for line in log.entries().iter().filter_map(|entry| watch.line(entry)) {
        output::say(&line)?;
    }
    if let Some(file) = capture {
        log.write_pcapng(&file)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok((outcome, conversation::ladder(TITLE, &topology, &log)))
}

/// Watches the boxes in front of the peers.
fn watch(topology: &Topology) -> Watch {
    let hosts = conversation::hosts();
    let boxes = [&hosts.dialler, &hosts.listener].map(|name| topology.boxes_of(name));
    Watch::new(boxes.into_iter().flatten().map(|(name, _)| name))
}

fn namespaces(
    kinds: &[Kind; 2],
    seed: u64,
    capture: Option<PathBuf>,
) -> Result<(PunchOutcome, Ladder)> {
    let topology = explain::topology(kinds);
    let lab = Lab::builder()
        .topology(topology.clone())
        .engine(Engine::Model)
        .seed(seed)
        .record(false)
        .log(true);
    let lab = capture
        .into_iter()
        .fold(lab, netns_lab::LabBuilder::capture);
    let lab = lab.build()?;
    let watch = watch(&topology);
    let outcomes = thread::scope(|scope| {
        let dial = scope.spawn(|| P2pconnect.dial_in_lab(&lab, &conversation::hosts(), 1));
        let mut told = 0;
        while !dial.is_finished() {
            thread::sleep(LOOK);
            told = tell(&watch, &lab.log(), told)?;
        }
        tell(&watch, &lab.log(), told)?;
        let joined = dial.join();
        let dialled = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        dialled.map_err(anyhow::Error::from_boxed)
    })?;
    let ladder = conversation::ladder(TITLE, &topology, &lab.log());
    lab.close()?;
    let outcome = outcomes.into_iter().next();
    Ok((outcome.context("nothing was dialled")?, ladder))
}

/// Tells what is new in the log, and returns how much is told then.
fn tell(watch: &Watch, log: &EventLog, told: usize) -> Result<usize> {
    for entry in log.entries().iter().skip(told) {
        if let Some(line) = watch.line(entry) {
            output::say(&line)?;
        }
    }
    Ok(log.entries().len())
}
