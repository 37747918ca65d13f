//! Benches in labs, and what processes take.

use std::{fs, process::ExitCode, time::Duration};

/// Runs a bench inside namespaces of its own. It is given the number that the command line names,
/// beside which cargo adds `--bench`.
///
/// # Errors
///
/// The system refuses namespaces.
pub fn isolated(bench: impl FnOnce(Option<usize>)) -> Result<ExitCode, netns_lab::Error> {
    if let Some(code) = netns_lab::isolate()? {
        return Ok(code);
    }
    bench(std::env::args().find_map(|argument| argument.parse().ok()));
    Ok(ExitCode::SUCCESS)
}

/// Returns how much memory a process takes, in KiB.
///
/// # Panics
///
/// If there is no such process.
pub fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().split(' ').next().unwrap();
    number.parse().unwrap()
}

/// Returns how long a process has computed.
///
/// # Panics
///
/// If there is no such process.
pub fn processor_time(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds = tasks.map(|task| {
        let schedstat = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        schedstat.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}
