//! Waits for the signals that end the command.

use anyhow::anyhow;
use tokio::signal::unix::{SignalKind, signal};

/// The name of a signal.
pub(crate) type Signal = &'static str;

/// Says which signal has ended what was not done.
pub(crate) fn ended_by(signal: Signal) -> anyhow::Error {
    anyhow!("ended by {signal}")
}

/// Waits for whatever ends a service: Ctrl-C, the request of a service manager, or the hang-up of the
/// terminal that it was started in. Returns which of them it was.
pub(crate) async fn told_to_end() -> Signal {
    or_hung_up(interrupted()).await
}

/// Waits for something else, or for the hang-up, whichever comes first.
pub(crate) async fn or_hung_up(other: impl Future<Output = Signal>) -> Signal {
    let hung_up = hung_up();
    tokio::select! {
        signal = other => signal,
        signal = hung_up => signal,
    }
}

/// Waits for Ctrl-C, or for the polite request to end that service managers send.
pub(crate) async fn interrupted() -> Signal {
    match (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            }
        }
        // Without handlers the system's own behaviour stays: the signal ends the process.
        _ => std::future::pending().await,
    }
}

/// Waits for the hang-up that a terminal sends when it goes, and ssh to its `ProxyCommand` when the
/// session is over. Counts from the call, not from the first poll.
///
/// Who was started with `nohup` does not hear it.
pub(crate) fn hung_up() -> impl Future<Output = Signal> {
    let signal = (!ignores_hang_up())
        .then(|| signal(SignalKind::hangup()).ok())
        .flatten();
    async move {
        match signal {
            Some(mut signal) => {
                signal.recv().await;
                "SIGHUP"
            }
            None => std::future::pending().await,
        }
    }
}

/// A handler would take the place of what `nohup` has asked for.
fn ignores_hang_up() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| is_hang_up_ignored(&status))
}

/// Reads the mask of ignored signals (proc_pid_status(5)), in which SIGHUP is the lowest bit.
fn is_hang_up_ignored(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen_in_the_mask_of_ignored_signals() {
        assert!(is_hang_up_ignored("Pid:\t1\nSigIgn:\t0000000000001001\n"));
        assert!(!is_hang_up_ignored("Pid:\t1\nSigIgn:\t0000000000001000\n"));
        assert!(!is_hang_up_ignored("SigIgn:\tnonsense\n"));
        assert!(!is_hang_up_ignored(""));
    }
}
