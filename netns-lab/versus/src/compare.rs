//! Puts rust-libp2p's hole punching and p2pconnect's punch agent through the
//! same NATs, for every pair of kinds.
//!
//! ```text
//! compare [runs of each pair, 3] [labs at the same time, 2] [file for the page, versus.html]
//! ```
//!
//! Every run has a lab of its own, with 80 ms between the peers and 42 ms to the
//! server. libp2p gets fresh processes for each run: a relay on the public host,
//! a peer that waits at it, and one that dials.

mod programs;

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use netns_lab::matrix::{self, Expectation, Ground};
use netns_lab::oracle::{self, Outcome as Oracle};
use netns_lab::puncher::Path;
use netns_lab::report::{Cell, Expected, Series};
use netns_lab::{Dependence, HostSpec, Lab, NatSpec, UnsolicitedSyn};
use programs::Direct;

const KINDS: [(&str, &str, NatSpec); 6] = [
    (
        "preserving",
        "keeps the port, drops what was not asked for",
        NatSpec::port_preserving(),
    ),
    (
        "preserving-rst",
        "keeps the port, answers with RST",
        NatSpec::port_preserving().answering(UnsolicitedSyn::Rst),
    ),
    (
        "open-filter",
        "keeps the port, endpoint-independent filtering",
        NatSpec::port_preserving().filtering(Dependence::EndpointIndependent),
    ),
    (
        "random",
        "one random port for all destinations",
        NatSpec::random_port(),
    ),
    (
        "random-each",
        "a random port for each destination",
        NatSpec::random_per_destination(),
    ),
    ("firewall", "no translation", NatSpec::firewall()),
];

fn main() -> Result<ExitCode> {
    if let Some(code) = netns_lab::isolate()? {
        return Ok(code);
    }
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let (runs, labs) = (number(3)?, number(2)?);
    let page = arguments.next().unwrap_or_else(|| "versus.html".into());
    let options = matrix::Options {
        kinds: kinds(),
        runs,
        ground: Ground::Namespaces,
        workers: NonZero::new(labs as usize),
        expectation,
        ..matrix::Options::default()
    };
    let mut report = matrix::run(&options, |_| ())?.into_report(&options);
    report.series.extend(libp2p(runs, labs)?);
    report.title = "p2pconnect's punch agent and rust-libp2p's DCUtR over TCP".into();
    report.path = "80 ms between the peers, 42 ms to the server or relay".into();
    report.notes.push(format!(
        "{runs} runs of each pair, {labs} labs at a time. The punch agent's clock starts with the \
         dialler's request to a server that both peers are known to, and ends with an agreed \
         connection; libp2p's ends when the direct connection is authenticated."
    ));
    println!("{}", report.summary());
    std::fs::write(&page, report.html()).with_context(|| format!("cannot write {page}"))?;
    Ok(ExitCode::SUCCESS)
}

fn kinds() -> Vec<matrix::Kind> {
    let kind = |&(name, title, nat): &(&str, &str, NatSpec)| matrix::Kind {
        name: name.into(),
        title: title.into(),
        chain: vec![nat],
    };
    KINDS.iter().map(kind).collect()
}

/// Asks the oracle about a pair.
fn expectation(dialler: &[NatSpec], listener: &[NatSpec]) -> Expectation {
    let punchability = oracle::punchable(dialler, listener);
    let expected = match punchability.outcome {
        Oracle::Certain { .. } => Expected::Certain,
        Oracle::Chance { probability, .. } => Expected::Chance(probability),
        Oracle::Impossible { .. } => Expected::Impossible,
    };
    let reason = punchability.reason;
    Expectation { expected, reason }
}

/// Runs libp2p between all kinds, and returns its times by two clocks.
fn libp2p(runs: u32, labs: u32) -> Result<[Series; 2]> {
    let start = Instant::now();
    let count = KINDS.len();
    let pairs = (0..count).flat_map(|dialler| (0..count).map(move |listener| (dialler, listener)));
    let pairs: Vec<_> = pairs.collect();
    let outcomes = run_all(&pairs, runs, labs)?;
    let took = start.elapsed();
    let series = |name: &str, time: fn(&Direct) -> Duration| Series {
        name: name.into(),
        ground: "namespaces".into(),
        cells: pairs
            .iter()
            .zip(&outcomes)
            .map(|(&pair, outcomes)| cell(pair, outcomes, time))
            .collect(),
        took,
    };
    Ok([
        series("libp2p from the relayed connection on", |direct| {
            direct.warm
        }),
        series("libp2p from the start of the process", |direct| direct.cold),
    ])
}

/// What came of one run: times, or why there is no direct connection.
type Outcome = Result<Direct, String>;

/// Runs every pair and returns the outcomes in the order of the pairs.
fn run_all(pairs: &[(usize, usize)], runs: u32, labs: u32) -> Result<Vec<Vec<Outcome>>> {
    let queue = Mutex::new(pairs.iter().enumerate());
    let done = Mutex::new(vec![Vec::new(); pairs.len()]);
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().expect("nobody panics with the queue").next();
            let Some((index, &pair)) = next else {
                return Ok(());
            };
            for seed in 0..runs {
                let outcome = run(pair, seed.into())
                    .with_context(|| format!("{} dials {}", KINDS[pair.0].0, KINDS[pair.1].0))?;
                done.lock().expect("nobody panics with the outcomes")[index].push(outcome);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..labs.max(1)).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .map(|result| result.expect("a worker returns its errors"))
            .collect::<Result<()>>()
    })?;
    Ok(done.into_inner().expect("nobody panics with the outcomes"))
}

/// Runs one pair once, in a lab of its own.
fn run((dialler, listener): (usize, usize), seed: u64) -> Result<Outcome> {
    let path = Path::default();
    let peer = |name, kind: usize| HostSpec::new(name).behind(KINDS[kind].2).link(path.peer);
    let lab = Lab::builder()
        .seed(seed)
        .record(false)
        .host(HostSpec::new("relay").link(path.server))
        .host(peer("dialler", dialler))
        .host(peer("listener", listener))
        .build()?;
    let outcome = programs::punch(&lab)?;
    lab.close()?;
    Ok(outcome)
}

fn cell(pair: (usize, usize), outcomes: &[Outcome], time: fn(&Direct) -> Duration) -> Cell {
    let succeeded = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok());
    let mut times: Vec<Duration> = succeeded.map(time).collect();
    times.sort();
    let chain = |kind: usize| [KINDS[kind].2];
    let Expectation { expected, reason } = expectation(&chain(pair.0), &chain(pair.1));
    Cell {
        dialler: pair.0,
        listener: pair.1,
        runs: outcomes.len().try_into().unwrap_or(u32::MAX),
        successes: times.len().try_into().unwrap_or(u32::MAX),
        median: times.get(times.len() / 2).copied(),
        worst: times.last().copied(),
        how: Vec::new(),
        expected,
        reason,
        failure: outcomes.iter().find_map(|outcome| outcome.clone().err()),
        ladder: None,
    }
}
