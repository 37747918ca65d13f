//! Stderr, which nothing waits for: its reader may have stopped.
//!
//! What stderr does not take at once is kept, up to a limit, until a thread of its own has written
//! it; what there is no room for is counted. The thread is there only if it is needed: the C
//! library reserves 64 MiB of address space for each, which may be all that the process has left.

use std::{
    io::{self, IoSlice, Write as _},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ReadWriteFlags, pwritev2},
    stdio::stderr,
};
use serde_json::json;

use crate::patient::Patient;

/// The most that is kept, in bytes. Some thousand lines, which is more than all parts of the
/// command together log in the moment that a busy machine takes to run the thread that writes.
const MAX_KEPT: usize = 1 << 20;

/// How long the end of the process may be held up by its last lines: a terminal that was stopped by
/// Ctrl-S, or a program that is just busy, has them then, and a reader that is stuck holds nobody
/// up for long.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The thread writes, and touches hardly anything else.
const STACK: usize = 128 * 1024;

/// How much a pipe takes without waiting if it takes anything (`PIPE_BUF` of Linux).
const PIPE_BUF: usize = 4096;

static STDERR: Stderr = Stderr {
    state: Mutex::new(State {
        backlog: Backlog {
            kept: Vec::new(),
            missing: 0,
            is_json: false,
        },
        writer: Writer::NotStarted,
    }),
    changed: Condvar::new(),
};

/// Writes a line, or several, at once or as soon as stderr takes it. Somebody who closed stderr
/// does not want to know.
pub(crate) fn write(lines: &[u8]) {
    STDERR.write(lines);
}

/// Has the number of lines that are missing told to a program, as JSON.
pub(crate) fn speak_json() {
    STDERR.state().backlog.is_json = true;
}

/// Waits until everything is written, and not for long.
pub(crate) fn finish() {
    let state = STDERR.state();
    let is_busy = |state: &mut State| {
        matches!(state.writer, Writer::Writing) || !state.backlog.kept.is_empty()
    };
    drop(
        STDERR
            .changed
            .wait_timeout_while(state, LAST_LINES, is_busy),
    );
}

/// Where log lines go, each in one piece.
#[derive(Debug)]
pub(crate) struct Log;

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Stderr {
    state: Mutex<State>,
    /// Told of what the other side waits for.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    backlog: Backlog,
    writer: Writer,
}

/// The thread that writes.
#[derive(Debug, Clone, Copy)]
enum Writer {
    NotStarted,
    Waiting,
    Writing,
    /// The system gives none, so whoever says something writes it.
    Missing,
}

impl Stderr {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&'static self, lines: &[u8]) {
        let mut state = self.state();
        let is_empty = state.backlog.kept.is_empty() && !matches!(state.writer, Writer::Writing);
        let rest = match is_empty {
            true => &lines[write_now(lines)..],
            false => lines,
        };
        if rest.is_empty() {
            return;
        }
        if let Writer::NotStarted = state.writer {
            let thread = thread::Builder::new().stack_size(STACK);
            let started = thread.spawn(|| self.write_all());
            state.writer = started.map_or(Writer::Missing, |_| Writer::Waiting);
        }
        if let Writer::Missing = state.writer {
            drop(Patient(stderr()).write_all(rest));
            return;
        }
        state.backlog.push(rest);
        self.changed.notify_all();
    }

    /// Writes what is kept, again and again.
    fn write_all(&self) {
        let mut state = self.state();
        loop {
            let lines = state.backlog.take();
            if lines.is_empty() {
                state.writer = Writer::Waiting;
                self.changed.notify_all();
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.writer = Writer::Writing;
            drop(state);
            // Somebody who closed stderr does not want to know.
            drop(Patient(stderr()).write_all(&lines));
            state = self.state();
        }
    }
}

/// Writes as much as stderr takes at once, and returns how much that was.
fn write_now(lines: &[u8]) -> usize {
    let mut written = 0;
    while written < lines.len() {
        match write_some(&lines[written..]) {
            Ok(some) => written += some,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return written,
            Err(_) => return lines.len(),
        }
    }
    written
}

/// Writes what stderr takes at once.
///
/// Whether writing waits belongs to the open file, which others have as well. So the system is
/// asked before, and where it can be, told not to wait, since another program may fill a pipe
/// meanwhile.
fn write_some(lines: &[u8]) -> Result<usize, Errno> {
    const HERE: u64 = u64::MAX;
    const AT_ONCE: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };

    let stderr = stderr();
    if poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&AT_ONCE))? == 0 {
        return Err(Errno::AGAIN);
    }
    let written = pwritev2(stderr, &[IoSlice::new(lines)], HERE, ReadWriteFlags::NOWAIT);
    match written {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            rustix::io::write(stderr, &lines[..lines.len().min(PIPE_BUF)])
        }
        written => written,
    }
}

/// What has been said and not been written.
#[derive(Debug)]
struct Backlog {
    kept: Vec<u8>,
    /// How many lines there was no room for, behind those that are kept.
    missing: u64,
    is_json: bool,
}

impl Backlog {
    fn push(&mut self, lines: &[u8]) {
        // What comes behind a gap is in the gap, or lines would change places.
        if self.missing > 0 || self.kept.len() + lines.len() > MAX_KEPT {
            self.missing += 1;
        } else {
            self.kept.extend_from_slice(lines);
        }
    }

    /// Returns what is to be written next, which says how much is missing behind it.
    fn take(&mut self) -> Vec<u8> {
        let mut lines = std::mem::take(&mut self.kept);
        let missing = std::mem::take(&mut self.missing);
        if missing > 0 {
            let line = if self.is_json {
                json!({ "event": "lines-missing", "count": missing }).to_string()
            } else {
                format!("({missing} lines are missing here, for which stderr took too long)")
            };
            lines.extend_from_slice(line.as_bytes());
            lines.push(b'\n');
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(is_json: bool) -> Backlog {
        Backlog {
            kept: Vec::new(),
            missing: 0,
            is_json,
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_where_it_is_missing() {
        let mut backlog = backlog(false);
        let line = [&[b'x'; 99][..], b"\n"].concat();
        let fitting = MAX_KEPT / line.len();
        for _ in 0..fitting + 5 {
            backlog.push(&line);
        }
        // It would fit, but not in its place.
        backlog.push(b"\n");
        let taken = String::from_utf8(backlog.take()).unwrap_or_default();
        assert_eq!(taken.lines().count(), fitting + 1);
        assert!(taken.len() < MAX_KEPT + 100);
        let last = taken.lines().last().unwrap_or_default();
        assert!(last.starts_with("(6 lines are missing here"), "{last}");
        backlog.push(b"on\n");
        assert_eq!(backlog.take(), b"on\n");
        assert_eq!(backlog.take(), b"");
    }

    #[test]
    fn programs_are_told_of_missing_lines_in_their_language() {
        let mut backlog = backlog(true);
        backlog.push(&[b'x'; MAX_KEPT]);
        backlog.push(b"{}\n");
        let taken = backlog.take();
        let told = taken.strip_prefix(&[b'x'; MAX_KEPT][..]);
        let told = told.and_then(|it| serde_json::from_slice(it).ok());
        assert_eq!(told, Some(json!({ "event": "lines-missing", "count": 1 })));
    }
}
