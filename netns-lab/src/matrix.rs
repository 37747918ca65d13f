//! The matrix: every kind of access dials every other one, with one [`Contender`].
//!
//! ```
//! use std::time::Duration;
//!
//! use netns_lab::contender::{Contender, ContenderError, Established, Path, Punch, PunchOutcome};
//! use netns_lab::matrix::{self, Kind, Options};
//! use netns_lab::virtual_time::World;
//! use netns_lab::{EventLog, NatSpec, preset};
//!
//! /// Connects to port 80 and knows nothing of NATs.
//! struct Plain;
//!
//! impl Contender for Plain {
//!     fn name(&self) -> &str {
//!         "plain"
//!     }
//!
//!     fn bound(&self, path: &Path, _: [&[NatSpec]; 2]) -> Duration {
//!         path.between_peers()
//!     }
//!
//!     fn dial_in_world(
//!         &self,
//!         mut world: World,
//!         hosts: &Punch,
//!         _seed: u64,
//!     ) -> Result<(PunchOutcome, EventLog), ContenderError> {
//!         let find = |name| world.find_host(name).ok_or("there is no such host");
//!         let (from, to) = (find(&hosts.dialler)?, find(&hosts.listener)?);
//!         let (local, remote) = (world.addresses(from)[0], world.addresses(to)[0]);
//!         world.listen(to, 80)?;
//!         let socket = world.connect(from, (local, 4000).into(), (remote, 80).into())?;
//!         let limit = Duration::from_secs(1);
//!         world.run_until(limit, |world| matches!(world.opened(socket), Ok(Some(_))));
//!         let opened = world.opened(socket)?;
//!         let outcome = PunchOutcome {
//!             established: opened.map(|(_, after)| Established { how: "connected".into(), after }),
//!             failure: opened.is_none().then(|| "no answer".into()),
//!             failed_after: opened.is_none().then_some(limit),
//!         };
//!         Ok((outcome, world.log().clone()))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kinds = ["public", "openwrt"].map(|name| preset::find(name).map(Kind::from));
//! let options = Options {
//!     kinds: kinds.into_iter().collect::<Result<_, _>>()?,
//!     ..Options::default()
//! };
//! let matrix = matrix::run(&options, &Plain, |progress| {
//!     // A progress bar would move here.
//!     assert!(progress.done <= progress.total);
//! })?;
//! let successes: Vec<_> = matrix.series.cells.iter().map(|cell| cell.successes).collect();
//! // Nobody gets through OpenWrt from outside.
//! assert_eq!(successes, [1, 0, 1, 0]);
//! # Ok(())
//! # }
//! ```
//!
//! # What always holds
//!
//! - In virtual time, the seed decides everything but [`Series::took`], if it decides what the
//!   contender does: the same options have the same result, however many threads share the work.
//! - The seed of a cell comes from the names of its kinds, so that it is the same in a smaller
//!   matrix.
//! - A run that fails counts as a run, and its cell says why.

mod cell;
mod dial;
mod files;
mod ladder;

use std::{
    io,
    num::NonZero,
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use p2pconnect_nat::NatSpec;

use crate::{
    Engine,
    contender::{Contender, ContenderError, Path},
    error::Error,
    oracle::{self, Outcome, Punchability},
    preset::{self, Preset},
    report::{self, Expected, Ladder, Report, Series},
};

use files::Files;

pub use cell::run_seed;

/// Labs side by side for each processor: they mostly wait for round trips.
const LABS_PER_PROCESSOR: usize = 8;

/// Runs that are drawn unless told otherwise: more than anybody looks at, and a page that a browser
/// still shows at once.
pub const MAX_LADDERS: usize = 50;

/// A row and column: what stands between a peer and the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// The short name; each is different.
    pub name: String,
    /// What it is, in a few words.
    pub title: String,
    /// Its boxes, the innermost first; none for a host with a public address.
    pub chain: Vec<NatSpec>,
}

impl From<&Preset> for Kind {
    fn from(preset: &Preset) -> Self {
        Self {
            name: preset.name.into(),
            title: preset.title.into(),
            chain: preset.specs(),
        }
    }
}

/// What somebody who knows the boxes expects of a pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// Whether it connects.
    pub expected: Expected,
    /// Why.
    pub reason: String,
}

impl Expectation {
    /// Returns what the [oracle] says.
    pub fn of_oracle(dialler: &[NatSpec], listener: &[NatSpec]) -> Self {
        let Punchability { outcome, reason } = oracle::punchable(dialler, listener);
        let expected = match outcome {
            Outcome::Certain { .. } => Expected::Certain,
            Outcome::Chance { probability, .. } => Expected::Chance(probability),
            Outcome::Impossible { .. } => Expected::Impossible,
        };
        Self { expected, reason }
    }
}

/// Where the matrix is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ground {
    /// On the hosts of a [`World`](crate::virtual_time::World).
    VirtualTime,
    /// In a lab of namespaces for each run, several side by side.
    Namespaces,
}

impl Ground {
    const fn name(self) -> &'static str {
        match self {
            Self::VirtualTime => "virtual time",
            Self::Namespaces => "namespaces",
        }
    }
}

/// What is run, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The rows and columns.
    pub kinds: Vec<Kind>,
    /// How often each cell is tried.
    pub runs: u32,
    /// What all randomness comes from.
    pub seed: u64,
    /// The links of the peers and the server.
    pub path: Path,
    /// Where it is run.
    pub ground: Ground,
    /// Who does the work of the boxes in namespaces.
    pub engine: Engine,
    /// Where each run leaves a pcapng file, called `<dialler>--<listener>--<run>.pcapng`;
    /// the directory must exist.
    pub captures: Option<PathBuf>,
    /// The most runs that are drawn packet by packet, in virtual time only: a picture takes a
    /// second run and half a megabyte of a page.
    pub max_ladders: usize,
    /// Threads that share the work; as many as fit the ground if not given.
    pub workers: Option<NonZero<usize>>,
    /// Says what to expect of a dialler's and a listener's chain.
    pub expectation: fn(&[NatSpec], &[NatSpec]) -> Expectation,
}

impl Default for Options {
    /// Returns all presets in virtual time, once, measured by the oracle.
    fn default() -> Self {
        Self {
            kinds: preset::all().iter().map(Kind::from).collect(),
            runs: 1,
            seed: 0,
            path: Path::default(),
            ground: Ground::VirtualTime,
            engine: Engine::Model,
            captures: None,
            max_ladders: MAX_LADDERS,
            workers: None,
            expectation: Expectation::of_oracle,
        }
    }
}

/// What a matrix is made of.
#[derive(Clone, Copy)]
struct Setup<'a> {
    options: &'a Options,
    contender: &'a dyn Contender,
}

/// A cell that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Cells done so far, with this one.
    pub done: usize,
    /// Cells in all.
    pub total: usize,
    /// Index of the kind that dialled.
    pub dialler: usize,
    /// Index of the kind that listened.
    pub listener: usize,
    /// How often it connected.
    pub successes: u32,
}

/// A matrix that was run.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// The cells, row by row.
    pub series: Series,
    /// One run of each cell on the work list, of each cell that connected against all expectation,
    /// and of a success of each way.
    pub shown: Vec<ShownRun>,
    /// The first of those runs packet by packet, in virtual time only;
    /// [`Cell::ladder`](report::Cell::ladder) counts in here.
    pub ladders: Vec<Ladder>,
}

/// A run that a reader will want to see packet by packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShownRun {
    /// Index of the kind that dialled.
    pub dialler: usize,
    /// Index of the kind that listened.
    pub listener: usize,
    /// Which of the cell's runs it is, from 0 on.
    pub run: u32,
    /// Its seed, with which it can be repeated in virtual time.
    pub seed: u64,
}

/// Why a matrix was not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// Two kinds have the same name.
    #[error("there are two kinds named {0:?}")]
    DuplicateKind(String),
    /// There is no place to run a pair on.
    #[error("{dialler} cannot dial {listener}: {source}")]
    Run {
        /// The kind that was to dial.
        dialler: String,
        /// The kind that was to listen.
        listener: String,
        /// What is wrong.
        source: GroundError,
    },
}

/// Why there is no place for a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroundError {
    /// The lab or the world cannot be built.
    #[error(transparent)]
    Lab(#[from] Error),
    /// The contender cannot dial there.
    #[error(transparent)]
    Contender(ContenderError),
    /// What crossed the links could not be written down.
    #[error("cannot write {file}: {source}", file = .file.display())]
    Capture {
        /// The file.
        file: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// Runs every ordered pair of kinds, and tells of each cell as it is done.
///
/// # Errors
///
/// [`MatrixError`] for kinds that cannot be told apart, and if the ground for a run cannot be
/// built. A dial that fails is no error.
pub fn run(
    options: &Options,
    contender: &dyn Contender,
    mut progress: impl FnMut(Progress),
) -> Result<Matrix, MatrixError> {
    let began = Instant::now();
    let setup = Setup { options, contender };
    check(&options.kinds)?;
    let total = options.kinds.len().pow(2);
    let mut cells: Vec<Option<cell::Outcomes>> = Vec::new();
    cells.resize_with(total, || None);
    let mut done = 0;
    run_cells(setup, |index, outcomes| {
        done += 1;
        progress(Progress {
            done,
            total,
            dialler: index / options.kinds.len(),
            listener: index % options.kinds.len(),
            successes: outcomes.successes(),
        });
        cells[index] = Some(outcomes);
    })?;
    let cells: Vec<_> = cells.into_iter().flatten().collect();
    let (mut cells, shown) = cell::evaluate(setup, &cells);
    let ladders = ladder::of_runs(setup, &shown, &mut cells)?;
    let ground = options.ground.name();
    Ok(Matrix {
        series: Series {
            name: format!("{}, {ground}", contender.name()),
            ground: ground.into(),
            cells,
            took: began.elapsed(),
        },
        shown,
        ladders,
    })
}

impl Matrix {
    /// Returns a report of this matrix alone.
    pub fn into_report(self, options: &Options) -> Report {
        let kinds = options.kinds.iter().map(|kind| report::Kind {
            name: kind.name.clone(),
            title: kind.title.clone(),
        });
        let Path { peer, server } = options.path;
        Report {
            title: match options.runs {
                1 => format!("{}, each pair once", self.series.name),
                runs => format!("{}, each pair {runs} times", self.series.name),
            },
            path: format!("access link of each peer: {peer:?}; of the server: {server:?}"),
            seed: options.seed,
            kinds: kinds.collect(),
            series: vec![self.series],
            ladders: self.ladders,
            notes: Vec::new(),
        }
    }
}

fn check(kinds: &[Kind]) -> Result<(), MatrixError> {
    let mut names = std::collections::BTreeSet::new();
    match kinds.iter().find(|kind| !names.insert(&kind.name)) {
        Some(kind) => Err(MatrixError::DuplicateKind(kind.name.clone())),
        None => Ok(()),
    }
}

/// Runs all cells on several threads, and hands them over as they come.
fn run_cells(
    setup: Setup<'_>,
    mut take: impl FnMut(usize, cell::Outcomes),
) -> Result<(), MatrixError> {
    let total = setup.options.kinds.len().pow(2);
    let next = AtomicUsize::new(0);
    let files = Files::new();
    let stop = AtomicBool::new(false);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..workers(setup.options).min(total) {
            let (sender, next, stop, files) = (sender.clone(), &next, &stop, &files);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= total {
                        return;
                    }
                    if sender
                        .send((index, cell::run(setup, index, files)))
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (index, result) in results {
            match result {
                Ok(outcomes) => take(index, outcomes),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(())
    })
}

fn workers(options: &Options) -> usize {
    let fitting = || {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        match options.ground {
            Ground::VirtualTime => processors,
            Ground::Namespaces => processors * LABS_PER_PROCESSOR,
        }
    };
    options.workers.map_or_else(fitting, NonZero::get)
}
