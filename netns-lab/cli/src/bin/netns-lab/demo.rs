//! `netns-lab demo`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use netns_lab::matrix::{Kind, run_seed};
use netns_lab::puncher::{self, Path, PunchOutcome};
use netns_lab::report::Ladder;
use netns_lab::{Engine, EventLog, HostSpec, Lab, Topology, oracle};

use crate::arguments::{DemoArguments, Ground};
use crate::watch::Watch;
use crate::{chain, conversation, explain, output};

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
    let chains = [&*kinds[0].chain, &*kinds[1].chain];
    let (outcome, log) = puncher::virtual_time_with_log(chains, Path::default(), seed)?;
    let places = explain::places(kinds);
    let boxes = places.iter().map(|place| place.name.clone());
    let watch = Watch::new(boxes.filter(|name| name.contains(" nat ")));
    for line in log.entries().iter().filter_map(|entry| watch.line(entry)) {
        output::say(&line)?;
    }
    if let Some(file) = capture {
        log.write_pcapng(&file)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok((outcome, conversation::ladder(TITLE, &places, &log)))
}

fn namespaces(
    kinds: &[Kind; 2],
    seed: u64,
    capture: Option<PathBuf>,
) -> Result<(PunchOutcome, Ladder)> {
    let path = Path::default();
    let host = |name: &str, kind: &Kind| {
        let host = HostSpec::new(name).link(path.peer);
        kind.chain.iter().fold(host, |host, nat| host.behind(*nat))
    };
    let topology = Topology::new()
        .host(host("dialler", &kinds[0]))
        .host(host("listener", &kinds[1]))
        .host(HostSpec::new("server").link(path.server));
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
    let hosts = ["dialler", "listener", "server"].map(|name| lab.host(name));
    let boxes = ["dialler", "listener"].map(|name| topology.boxes_of(name));
    let boxes = boxes.into_iter().flatten().map(|(name, _)| name);
    let watch = Watch::new(boxes);
    let outcome = thread::scope(|scope| {
        let punch = scope.spawn(|| puncher::on_hosts(hosts, seed));
        let mut told = 0;
        while !punch.is_finished() {
            thread::sleep(LOOK);
            told = tell(&watch, &lab.log(), told)?;
        }
        tell(&watch, &lab.log(), told)?;
        let joined = punch.join();
        Ok::<_, anyhow::Error>(joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
    })?;
    let places = topology.ladder_places(&["dialler", "listener"]);
    let ladder = conversation::ladder(TITLE, &places, &lab.log());
    lab.close()?;
    Ok((outcome, ladder))
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
