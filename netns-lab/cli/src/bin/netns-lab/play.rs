//! The script of a scenario.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use netns_lab::scenario::{self, Outcome, ScenarioRun};
use netns_lab_cli::P2pconnect;

use crate::{
    arguments::{Ground, RunArguments},
    explain, output,
    stage::Stage,
};

/// Lets the hosts of a scenario do what it says, and tells what came of it.
pub(crate) fn play(stage: &Stage, arguments: &RunArguments) -> Result<ExitCode> {
    let (ground, name) = match arguments.ground {
        Ground::Sim => (scenario::Ground::VirtualTime, "virtual time"),
        Ground::Netns => {
            if let Some(code) = netns_lab::isolate_passing_signals()? {
                return Ok(code);
            }
            let engine = arguments.lab.engine.into();
            (scenario::Ground::Namespaces(engine), "namespaces")
        }
    };
    let seed = stage.seed(&arguments.lab);
    let run = scenario::run(&stage.scenario, ground, seed, Some(&P2pconnect))
        .with_context(|| format!("{} cannot run in {name}", stage.name))?;
    if let Some(directory) = &arguments.lab.pcap {
        let file = explain::output_file(directory, &stage.file_name())?;
        let places = &arguments.lab.pcap_at;
        for place in places {
            stage.check_place(place)?;
        }
        let snap_length = arguments.lab.snap.unwrap_or(u16::MAX);
        run.log
            .write_part(&file, snap_length.into(), places)
            .with_context(|| format!("cannot write {}", file.display()))?;
        output::note(&format!("netns-lab: packets are in {}", file.display()));
    }
    output::say(&describe(stage, &run, &format!("{name}, --seed {seed}")))?;
    // Whoever names two presets wants to know whether they connect.
    let failed = stage.is_pair && run.outcome != Outcome::Connected;
    Ok(if run.unmet.is_empty() && !failed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn describe(stage: &Stage, run: &ScenarioRun, ground: &str) -> String {
    let title = stage.scenario.title();
    let title = if title.is_empty() {
        String::new()
    } else {
        format!(": {title}")
    };
    let outcome = match &run.outcome {
        Outcome::Connected => {
            let how = run.how.as_deref().map(|how| format!(", {how}"));
            let after = run.after.map(|after| format!(", after {after:.1?}"));
            let more: Vec<_> = how.into_iter().chain(after).collect();
            format!("connected{}", more.concat())
        }
        Outcome::Failed(why) => format!("not connected: {why}"),
    };
    let expected = match run.unmet.as_slice() {
        [] if stage.is_pair => String::new(),
        [] => "All that the scenario expects has come true.".to_owned(),
        unmet => {
            let lines: Vec<_> = unmet.iter().map(|line| format!("  {line}")).collect();
            format!("Expected otherwise:\n{}", lines.join("\n"))
        }
    };
    format!(
        "{}{title}; {ground}\n\n{}\n{outcome}\n{expected}\n",
        stage.name,
        run.ladder.to_text(output::width())
    )
}
