//! Waits for the signals that end the command.

use std::fs::File;

use anyhow::anyhow;
use tokio::signal::unix::{self, SignalKind, signal};

/// The name of a signal.
pub(crate) type Signal = &'static str;

/// The polite request to end that service managers send.
pub(crate) const TERMINATE: Signal = "SIGTERM";

/// Says which signal has ended what was not done.
pub(crate) fn ended_by(signal: Signal) -> anyhow::Error {
    anyhow!("ended by {signal}")
}

/// Waits for whatever ends a listener: Ctrl-C, the request of a service manager, or the hang-up of
/// the terminal that it was started in. Returns which of them it was. Counts from the call, not
/// from the first poll.
pub(crate) fn told_to_end() -> impl Future<Output = Signal> {
    either(interrupted(), hung_up())
}

/// Hears the hang-ups of a server, by which its operator has it read its settings again. They end
/// it only when they come of the terminal that it was started in, and this is gone.
pub(crate) struct HangUps {
    signal: Option<unix::Signal>,
    ends_with_terminal: bool,
}

impl HangUps {
    /// Counts from here.
    pub(crate) fn new() -> Self {
        let ends_with_terminal = has_terminal() && !ignores_hang_up();
        Self {
            signal: signal(SignalKind::hangup()).ok(),
            ends_with_terminal,
        }
    }

    /// Waits for the next one, and tells whether it is the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> bool {
        next(self.signal.as_mut(), "SIGHUP").await;
        self.ends_with_terminal && !has_terminal()
    }
}

/// Tells whether the process has a controlling terminal (tty(4)).
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Waits for one of two signals, whichever comes first.
pub(crate) async fn either(
    one: impl Future<Output = Signal>,
    other: impl Future<Output = Signal>,
) -> Signal {
    tokio::select! {
        signal = one => signal,
        signal = other => signal,
    }
}

/// Waits for Ctrl-C, or for the polite request to end that service managers send. Counts from the
/// call, not from the first poll.
pub(crate) fn interrupted() -> impl Future<Output = Signal> {
    let mut interrupts = Interrupts::new();
    async move { interrupts.next().await }
}

/// Hears Ctrl-C and the polite request to end, again and again.
pub(crate) struct Interrupts {
    interrupt: Option<unix::Signal>,
    terminate: Option<unix::Signal>,
}

impl Interrupts {
    /// Counts from here.
    pub(crate) fn new() -> Self {
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    /// Waits for the next one, and returns its name. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        let interrupt = next(self.interrupt.as_mut(), "SIGINT");
        either(interrupt, next(self.terminate.as_mut(), TERMINATE)).await
    }
}

/// Waits for the hang-up that a terminal sends when it goes, and ssh to its `ProxyCommand` when the
/// session is over. Counts from the call, not from the first poll.
///
/// Who was started with `nohup` does not hear it.
pub(crate) fn hung_up() -> impl Future<Output = Signal> {
    let hung_up = (!ignores_hang_up()).then(|| received(SignalKind::hangup(), "SIGHUP"));
    async move {
        match hung_up {
            Some(hung_up) => hung_up.await,
            None => std::future::pending().await,
        }
    }
}

/// Waits for a signal, and returns its name. Counts from the call, not from the first poll.
fn received(kind: SignalKind, name: Signal) -> impl Future<Output = Signal> {
    let mut signal = signal(kind).ok();
    async move { next(signal.as_mut(), name).await }
}

/// Waits for the next signal of a kind, and returns its name. Cancel safe.
async fn next(signal: Option<&mut unix::Signal>, name: Signal) -> Signal {
    match signal {
        Some(signal) => drop(signal.recv().await),
        // Without a handler the system's own behaviour stays: the signal ends the process.
        None => std::future::pending().await,
    }
    name
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
    use std::{future::ready, pin::pin};

    use rustix::process::{Signal as Kind, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_signal_that_comes_while_nobody_waits_is_heard_by_the_next_wait() {
        let mut told = pin!(received(SignalKind::user_defined1(), "SIGUSR1"));
        let first = either(&mut told, ready("something else")).await;
        assert_eq!(first, "something else");
        kill_process(getpid(), Kind::USR1).expect("a process may signal itself");
        assert_eq!(either(std::future::pending(), told).await, "SIGUSR1");
    }

    #[test]
    fn nohup_is_seen_in_the_mask_of_ignored_signals() {
        assert!(is_hang_up_ignored("Pid:\t1\nSigIgn:\t0000000000001001\n"));
        assert!(!is_hang_up_ignored("Pid:\t1\nSigIgn:\t0000000000001000\n"));
        assert!(!is_hang_up_ignored("SigIgn:\tnonsense\n"));
        assert!(!is_hang_up_ignored(""));
    }
}
