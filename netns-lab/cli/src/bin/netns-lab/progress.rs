//! How far a long run has come.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// A terminal is not drawn to more often.
const REDRAW: Duration = Duration::from_millis(50);

/// A log gets a line each time this much more is done.
const LINES: usize = 10;

/// The part of the bar that is done, and the rest.
const WIDTH: usize = 30;

/// A bar on a terminal, or some lines elsewhere.
pub(crate) struct Bar {
    label: String,
    is_terminal: bool,
    began: Instant,
    drawn: Option<Instant>,
    lines: usize,
}

impl Bar {
    pub(crate) fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            is_terminal: io::stderr().is_terminal(),
            began: Instant::now(),
            drawn: None,
            lines: 0,
        }
    }

    /// Shows that so many are done, and what is being done.
    pub(crate) fn show(&mut self, done: usize, total: usize, what: &str) {
        let mut out = io::stderr().lock();
        let seconds = self.began.elapsed().as_secs_f64();
        let label = &self.label;
        // Nobody needs a bar so much that it could fail.
        let _drawn = if self.is_terminal {
            let is_early = self.drawn.is_some_and(|at| at.elapsed() < REDRAW);
            if is_early && done < total {
                return;
            }
            self.drawn = Some(Instant::now());
            let full = WIDTH * done / total.max(1);
            let bar = format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full));
            let end = if done == total { "\n" } else { "" };
            let what = if done == total { "" } else { what };
            write!(
                out,
                "\r\x1b[K{label} [{bar}] {done}/{total} {seconds:.1} s {what}{end}"
            )
            .and_then(|()| out.flush())
        } else {
            let line = LINES * done / total.max(1);
            if line == self.lines {
                return;
            }
            self.lines = line;
            writeln!(out, "{label}: {done} of {total} pairs, {seconds:.1} s")
        };
    }
}
