//! A ladder for a terminal: a rail for each column at the left, what happened in words at the
//! right.

use std::{fmt, time::Duration};

use super::{Fate, Ladder, Step, StepKind, Tone};
use crate::report::text::{clean, millis, push, wrap};

/// Used where no width is given.
const WIDTH: usize = 100;

/// Characters for the time and its unit.
const TIME: usize = 10;

/// Characters from a rail to the next.
const PITCH: usize = 8;

/// Words get at least so many characters; a narrower terminal breaks the lines.
const LEAST_WORDS: usize = 24;

/// Time in which nothing happens is pointed out from here on.
const GAP: Duration = Duration::from_millis(500);

impl Ladder {
    /// Returns the ladder as text of at most `width` characters a line, or a little more if there
    /// is hardly room for words.
    ///
    /// A packet is shown when it leaves, with the time it takes; what is made of it stands where it
    /// arrives, which may be some lines further down.
    pub fn to_text(&self, width: usize) -> String {
        let ladder = self.bounded();
        let rails = TIME + 2 + ladder.columns.len() * PITCH;
        let words = width.saturating_sub(rails).max(LEAST_WORDS);
        let mut text = String::new();
        for line in wrap(&ladder.title, width.max(LEAST_WORDS)) {
            push(&mut text, format_args!("{line}\n"));
        }
        text.push_str(&ladder.names());
        let mut last = None;
        for step in &ladder.steps {
            let Some(line) = Line::of(&ladder, step) else {
                continue;
            };
            if let Some(gap) = last.and_then(|last| step.at.checked_sub(last))
                && gap >= GAP
            {
                let quiet = format!("... {} ms ...", millis(gap));
                push(&mut text, format_args!("{:TIME$}  {quiet}\n", ""));
            }
            let time = match last {
                Some(last) if last == step.at => String::new(),
                _ => format!("{} ms", millis(step.at)),
            };
            last = Some(step.at);
            line.write(&mut text, &time, words);
        }
        text
    }

    /// Returns the names of the columns, each above its rail where that is wide enough.
    fn names(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|one| clean(&one.name)).collect();
        let mut text = String::new();
        if names.iter().all(|name| name.chars().count() < PITCH) {
            push(&mut text, format_args!("{:TIME$}  ", ""));
            for name in &names {
                push(&mut text, format_args!("{name:PITCH$}"));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
            return text;
        }
        for (index, name) in names.iter().enumerate() {
            push(&mut text, format_args!("{:TIME$}  ", ""));
            for _ in 0..index {
                push(&mut text, format_args!("{:PITCH$}", "|"));
            }
            push(&mut text, format_args!("{name}\n"));
        }
        text
    }
}

/// A step as rails and words.
struct Line {
    rails: String,
    /// The rails below, for further lines of words.
    rest: String,
    words: String,
}

impl Line {
    fn of(ladder: &Ladder, step: &Step) -> Option<Self> {
        let count = ladder.columns.len();
        let mut rails: Vec<char> = " ".repeat(count * PITCH).chars().collect();
        for index in 0..count {
            rails[index * PITCH] = '|';
        }
        let rest: String = rails.iter().collect();
        let words = match &step.kind {
            StepKind::Note { column, text, tone } => {
                let name = &ladder.columns.get(*column)?.name;
                rails[column * PITCH] = match tone {
                    Tone::Neutral => '#',
                    Tone::Good => '+',
                    Tone::Bad => 'X',
                };
                format!("  {name}: {text}")
            }
            StepKind::Arrow {
                from,
                to,
                arrives,
                label,
                fate,
            } => {
                if from == to || *from.max(to) >= count {
                    return None;
                }
                draw(&mut rails, from * PITCH, to * PITCH, fate);
                let way = match (fate, arrives) {
                    (Fate::Lost(why), _) => format!(" (lost: {why})"),
                    (Fate::Carried, Some(arrives)) if *arrives > step.at => {
                        format!(" (arrives {} ms)", millis(*arrives))
                    }
                    (Fate::Carried, _) => String::new(),
                };
                format!("{label}{way}")
            }
        };
        Some(Self {
            rails: rails.into_iter().collect(),
            rest,
            words,
        })
    }

    fn write(&self, text: &mut String, time: &str, width: usize) {
        let indent = self.words.chars().take_while(|one| *one == ' ').count();
        let lines = wrap(&self.words, width.saturating_sub(indent));
        let mut rails = &self.rails;
        let mut time = time;
        for line in lines {
            push(
                text,
                format_args!("{time:>TIME$}  {rails}{:indent$}{line}\n", ""),
            );
            (rails, time) = (&self.rest, "");
        }
    }
}

/// Draws an arrow from a rail to another; a lost packet ends in a cross.
fn draw(rails: &mut [char], from: usize, to: usize, fate: &Fate) {
    let (low, high) = (from.min(to), from.max(to));
    let rightwards = to > from;
    rails[low + 1..high]
        .iter_mut()
        .filter(|rail| **rail == ' ')
        .for_each(|rail| *rail = '-');
    let head = if rightwards { high - 1 } else { low + 1 };
    match fate {
        Fate::Carried => rails[head] = if rightwards { '>' } else { '<' },
        Fate::Lost(_) => {
            let middle = low.midpoint(high);
            rails[middle] = 'x';
            let beyond = if rightwards {
                middle + 1..high
            } else {
                low + 1..middle
            };
            rails[beyond]
                .iter_mut()
                .filter(|rail| **rail == '-')
                .for_each(|rail| *rail = ' ');
        }
    }
}

impl fmt::Display for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text(WIDTH))
    }
}
