//! One cell: its runs, and what they come to.

use std::{collections::BTreeMap, time::Duration};

use p2pconnect_nat::NatSpec;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{Expectation, Ground, Kind, MatrixError, Setup, ShownRun, dial::Dial, files::Files};
use crate::{
    contender::PunchOutcome,
    report::{Cell, Standing},
};

/// The offset basis and the prime of the 64-bit FNV-1a hash.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);

/// The runs of one cell, in order.
#[derive(Debug, Clone)]
pub(super) struct Outcomes {
    dialler: usize,
    listener: usize,
    runs: Vec<PunchOutcome>,
}

/// Returns the seed of a run, so that it can be run again alone.
pub fn run_seed(master: u64, dialler: &str, listener: &str, run: u32) -> u64 {
    let names = dialler.bytes().chain([0]).chain(listener.bytes());
    let hash = names.fold(FNV.0, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV.1)
    });
    let mut random = ChaCha8Rng::seed_from_u64(master ^ hash);
    random.set_stream(run.into());
    random.next_u64()
}

/// Runs the cell with a number, row by row.
pub(super) fn run(setup: Setup<'_>, index: usize, files: &Files) -> Result<Outcomes, MatrixError> {
    let options = setup.options;
    let (dialler, listener) = (index / options.kinds.len(), index % options.kinds.len());
    let kinds = [&options.kinds[dialler], &options.kinds[listener]];
    let lab = |run, most| {
        let seed = run_seed(options.seed, &kinds[0].name, &kinds[1].name, run);
        let capture = options.captures.as_ref().map(|directory| {
            let [from, to] = kinds.map(|kind| &kind.name);
            directory.join(format!("{from}--{to}--{run}.pcapng"))
        });
        let dial = Dial {
            setup,
            chains: chains(kinds),
            seed,
        };
        let dial = || dial.run(most, capture);
        let outcomes = match options.ground {
            Ground::VirtualTime => dial(),
            Ground::Namespaces => files.with(kinds, dial),
        };
        outcomes.map_err(|source| MatrixError::Run {
            dialler: kinds[0].name.clone(),
            listener: kinds[1].name.clone(),
            source,
        })
    };
    let mut runs = Vec::new();
    let mut left = options.runs;
    while left > 0 {
        runs.extend(lab(options.runs - left, left)?);
        left = options.runs.saturating_sub(count(runs.iter()));
    }
    Ok(Outcomes {
        dialler,
        listener,
        runs,
    })
}

pub(super) fn chains(kinds: [&Kind; 2]) -> [&[NatSpec]; 2] {
    kinds.map(|kind| kind.chain.as_slice())
}

/// Measures the cells by what was expected, and chooses the runs to be shown.
pub(super) fn evaluate(setup: Setup<'_>, outcomes: &[Outcomes]) -> (Vec<Cell>, Vec<ShownRun>) {
    let options = setup.options;
    let mut cells = Vec::new();
    let mut shown = Vec::new();
    let mut ways_shown = Vec::new();
    for outcomes in outcomes {
        let cell = outcomes.cell(setup);
        let (dialler, listener) = (outcomes.dialler, outcomes.listener);
        if let Some(run) = outcomes.run_to_show(&cell, &mut ways_shown) {
            let [from, to] = [dialler, listener].map(|it| options.kinds[it].name.as_str());
            shown.push(ShownRun {
                dialler,
                listener,
                run,
                seed: run_seed(options.seed, from, to, run),
            });
        }
        cells.push(cell);
    }
    (cells, shown)
}

impl Outcomes {
    pub(super) fn successes(&self) -> u32 {
        count(self.runs.iter().filter(|run| run.established.is_some()))
    }

    fn cell(&self, setup: Setup<'_>) -> Cell {
        let Setup { options, contender } = setup;
        let [dialler, listener] = [self.dialler, self.listener].map(|it| &options.kinds[it]);
        let Expectation { expected, reason } =
            (options.expectation)(&dialler.chain, &listener.chain);
        let established = || self.runs.iter().filter_map(|run| run.established.as_ref());
        let mut times: Vec<Duration> = established().map(|it| it.after).collect();
        times.sort_unstable();
        let mut gave_up: Vec<_> = self
            .runs
            .iter()
            .filter_map(|run| run.failed_after)
            .collect();
        gave_up.sort_unstable();
        let mut how: BTreeMap<&str, u32> = BTreeMap::new();
        for it in established() {
            *how.entry(&it.how).or_default() += 1;
        }
        Cell {
            dialler: self.dialler,
            listener: self.listener,
            runs: count(self.runs.iter()),
            successes: self.successes(),
            median: percentile(&times, 50),
            p95: percentile(&times, 95),
            worst: times.last().copied(),
            bound: Some(contender.bound(&options.path, chains([dialler, listener]))),
            gave_up: percentile(&gave_up, 50),
            how: how.into_iter().map(|(way, n)| (way.into(), n)).collect(),
            expected,
            reason,
            failure: self.runs.iter().find_map(|run| run.failure.clone()),
            ladder: None,
        }
    }

    /// Returns the number of the run that a reader will want to see, if any.
    fn run_to_show(&self, cell: &Cell, ways_shown: &mut Vec<String>) -> Option<u32> {
        let position = |wanted: &dyn Fn(&PunchOutcome) -> bool| {
            let found = self.runs.iter().position(wanted)?;
            u32::try_from(found).ok()
        };
        match cell.standing() {
            standing if standing.is_work() => position(&|run| run.established.is_none()),
            Standing::Alarm => position(&|run| run.established.is_some()),
            _ => {
                let way = cell.how.iter().find(|(way, _)| !ways_shown.contains(way))?;
                ways_shown.push(way.0.clone());
                position(&|run| run.established.as_ref().is_some_and(|it| it.how == way.0))
            }
        }
    }
}

/// Returns the time in which so many of a hundred are done, of sorted ones.
fn percentile(times: &[Duration], hundredths: usize) -> Option<Duration> {
    let place = times.len() * hundredths / 100;
    times.get(place.min(times.len().saturating_sub(1))).copied()
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
