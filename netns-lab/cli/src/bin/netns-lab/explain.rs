//! `netns-lab explain`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use netns_lab::{
    EventLog, Topology,
    contender::{Contender as _, Path, PunchOutcome},
    matrix::{Kind, run_seed},
    oracle,
    virtual_time::World,
};
use netns_lab_cli::P2pconnect;

use crate::{arguments::ExplainArguments, chain, conversation, output};

pub(crate) fn main(arguments: &ExplainArguments) -> Result<ExitCode> {
    let kinds = [
        chain::parse(&arguments.kind_a)?,
        chain::parse(&arguments.kind_b)?,
    ];
    let [a, b] = [&kinds[0], &kinds[1]];
    let punchability = oracle::punchable(&a.chain, &b.chain);
    let seen = oracle::seen_from_outside(&a.chain, &b.chain);
    output::say(&format!(
        "{} with {}: {punchability}\n\na: {} ({})\nb: {} ({})\n{seen}",
        a.name, b.name, a.name, a.title, b.name, b.title
    ))?;
    let seed = run_seed(arguments.seed, &a.name, &b.name, 0);
    let (outcome, log) = dial(&kinds, seed)?;
    let title = format!(
        "a, the dialler, dials b, the listener, in virtual time, --seed {}",
        arguments.seed
    );
    output::say(&format!("\n{title}: {}", said(&outcome)))?;
    let ladder = conversation::ladder("", &topology(&kinds), &log).to_text(output::width());
    if arguments.ladder {
        output::say(&ladder)?;
    } else {
        let lines = ladder.lines().count();
        output::say(&format!("--ladder shows its packets, in {lines} lines."))?;
    }
    if let Some(directory) = &arguments.pcap {
        let file = output_file(directory, "explain")?;
        log.write_pcapng(&file)
            .with_context(|| format!("cannot write {}", file.display()))?;
        output::say(&format!("packets: {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the place of a capture file, in a directory that is made if need be.
pub(crate) fn output_file(directory: &std::path::Path, name: &str) -> Result<std::path::PathBuf> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    Ok(directory.join(format!("{name}.pcapng")))
}

/// Returns the network that two kinds dial each other in.
pub(crate) fn topology([from, to]: &[Kind; 2]) -> Topology {
    Path::default().topology(&conversation::hosts(), [&from.chain, &to.chain])
}

/// Lets the first kind dial the second one in virtual time.
pub(crate) fn dial(kinds: &[Kind; 2], seed: u64) -> Result<(PunchOutcome, EventLog)> {
    let world = World::build(&topology(kinds), seed)?;
    let dialled = P2pconnect.dial_in_world(world, &conversation::hosts(), seed);
    dialled.map_err(anyhow::Error::from_boxed)
}

/// Says in a sentence what came of a punch.
pub(crate) fn said(outcome: &PunchOutcome) -> String {
    match (&outcome.established, &outcome.failure) {
        (Some(it), _) => format!(
            "Connected after {:.0} ms, by {}.",
            it.after.as_secs_f64() * 1e3,
            it.how
        ),
        (None, Some(failure)) => format!("Not connected: {failure}"),
        (None, None) => "Not connected.".into(),
    }
}
