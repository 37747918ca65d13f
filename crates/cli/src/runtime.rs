//! The runtime that a command runs in.

use std::{
    io,
    num::NonZero,
    os::unix::net::UnixStream,
    panic,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use crate::shortage;

/// The most threads that work: what a few streams at full speed keep busy. A machine with many
/// processors may let a process have few threads.
const MAX_WORKERS: usize = 4;

/// What a command has to do at a time.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// No more than one stream. Two workers would wake each other for each of its reads: one alone
    /// carries 1.7 times as many bytes a second and takes a sixth less time on a processor for a
    /// dial.
    OneStream,
    /// The streams of several peers. Half of the processors are left to the kernel, which does as
    /// much for each byte, and to the program that the streams are forwarded to.
    Streams,
    /// What any number of strangers ask for.
    Strangers,
}

impl Load {
    /// Returns how many threads work on it, on a machine with so many processors.
    fn workers(self, processors: usize) -> usize {
        match self {
            Self::OneStream => 1,
            Self::Streams => (processors / 2).clamp(1, MAX_WORKERS),
            Self::Strangers => processors.min(MAX_WORKERS),
        }
    }
}

/// Threads for what the system has no other way for: reading a terminal, looking names up.
const SPARE_THREADS: usize = 2;

/// How many pairs of sockets take as many files as the runtime does: three to wait for events,
/// three to hear signals.
const PAIRS: usize = 3;

/// Runs a command to its end. A worker runs it as it runs everything else: this thread would have
/// to be woken for each thing that the command waits for.
///
/// # Errors
///
/// What the machine lacks.
pub(crate) fn block_on<T>(
    load: Load,
    command: impl Future<Output = T> + Send + 'static,
) -> anyhow::Result<T>
where
    T: Send + 'static,
{
    let runtime = start(load)?;
    let ended = runtime.block_on(runtime.spawn(command));
    let ended = ended.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
    // A read from a terminal cannot be cancelled, so nothing waits for it.
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(ended)
}

fn start(load: Load) -> anyhow::Result<Runtime> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = load.workers(processors);
    let needed = workers + SPARE_THREADS;
    // A runtime that cannot have a thread panics, or waits for it for ever.
    try_threads(needed).with_context(|| {
        format!(
            "this machine lets the process start no more threads, and it needs {needed}: raise the limit \
             of processes (ulimit -u, TasksMax= of systemd, the pids limit of a container)"
        )
    })?;
    // Neither can one that cannot have its files.
    let tried = try_files().map_err(shortage::named);
    tried.context("the command cannot start")?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build();
    runtime
        .map_err(shortage::named)
        .context("the command cannot start")
}

/// Opens as many files as the runtime needs, all at the same moment, and closes them.
///
/// # Errors
///
/// What the system says where it refuses one.
fn try_files() -> io::Result<()> {
    let pairs: io::Result<Vec<_>> = (0..PAIRS).map(|_| UnixStream::pair()).collect();
    pairs.map(drop)
}

/// Starts so many threads that are there at the same moment, and ends them.
///
/// # Errors
///
/// What the system says where it refuses one.
fn try_threads(count: usize) -> io::Result<()> {
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let started: Vec<_> = (0..count)
        .map(|_| {
            let gate = Arc::clone(&gate);
            thread::Builder::new().spawn(move || drop(gate.lock()))
        })
        .collect();
    drop(shut);
    for thread in started {
        // What it returns says nothing; a panic is printed by itself.
        drop(thread?.join());
    }
    Ok(())
}
