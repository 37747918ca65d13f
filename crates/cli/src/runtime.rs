//! The runtime that a command runs in.

use std::{
    io,
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use crate::exit::Exit;

/// The most threads that work: what a few streams at full speed keep busy. A machine with many
/// processors may let a process have few threads.
const MAX_WORKERS: usize = 4;

/// Threads for what the system has no other way for: reading a terminal, looking names up.
const SPARE_THREADS: usize = 2;

/// Runs a command to its end.
pub(crate) fn block_on(command: impl Future<Output = Exit>) -> Exit {
    let runtime = match start() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::failure(&error),
    };
    let exit = runtime.block_on(command);
    // A read from a terminal cannot be cancelled, so nothing waits for it.
    runtime.shutdown_timeout(Duration::ZERO);
    exit
}

fn start() -> anyhow::Result<Runtime> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = processors.min(MAX_WORKERS);
    let needed = workers + SPARE_THREADS;
    // A runtime that cannot have a thread panics, or waits for it for ever.
    try_threads(needed).with_context(|| {
        format!(
            "this machine lets the process start no more threads, and it needs {needed}: raise the limit \
             of processes (ulimit -u, TasksMax= of systemd, the pids limit of a container)"
        )
    })?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build();
    runtime.context("the command cannot start")
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
