//! `netns-lab explain`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use netns_lab::matrix::{Kind, run_seed};
use netns_lab::puncher::{self, Path, PunchOutcome};
use netns_lab::report::LadderPlace;
use netns_lab::{HostSpec, Topology, oracle};

use crate::arguments::ExplainArguments;
use crate::{chain, conversation, output};

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
    let (outcome, log) =
        puncher::virtual_time_with_log([&a.chain, &b.chain], Path::default(), seed)?;
    let title = format!(
        "a, the dialler, dials b, the listener, in virtual time, --seed {}",
        arguments.seed
    );
    output::say(&format!("\n{title}: {}", said(&outcome)))?;
    let ladder = conversation::ladder("", &places(&kinds), &log).to_text(output::width());
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

/// The columns of a punch in virtual time: the names are those of its world.
pub(crate) fn places(kinds: &[Kind; 2]) -> Vec<LadderPlace> {
    let host = |name: &str, kind: &Kind| {
        let host = HostSpec::new(name);
        kind.chain.iter().fold(host, |host, nat| host.behind(*nat))
    };
    let topology = Topology::new()
        .host(host("dialler", &kinds[0]))
        .host(host("listener", &kinds[1]));
    let mut places = topology.ladder_places(&["dialler", "listener"]);
    for place in &mut places {
        if let Some((host, number)) = place.name.split_once(".nat") {
            let number = if number.is_empty() { "1" } else { number };
            place.name = format!("{host} nat {number}");
        }
    }
    places
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
