//! Where everything in a ladder's picture goes.
//!
//! Time runs down the page, but not evenly: what happens at one time gets as many rows as it needs,
//! and where nothing happens little room is given. Texts stand in rows and never share a place in
//! one, so that none covers another.

use std::{collections::BTreeSet, time::Duration};

use crate::report::{
    ColumnKind, Fate, Ladder, Step, StepKind, Tone,
    text::{millis, wrap},
};

/// Pixels from a column to the next; a column of the core needs less.
const PITCH: i32 = 184;
const CORE_PITCH: i32 = 116;
/// Pixels for the times at the left.
const TIMES: i32 = 72;
/// Room for half a note at either side.
const SIDE: i32 = 94;
/// Pixels of a line of text and of a character, at a font size of 11.
pub(super) const LINE: i32 = 14;
const CHARACTER: i32 = 7;
/// Around the text of a note.
pub(super) const PADDING: i32 = 5;
/// Between texts and what is beside them.
const SPACE: i32 = 7;
/// How far above a note an arrow ends, so that its head is seen.
const HEAD: i32 = 3;
/// How far down a lost packet gets, and how much of the way, in percent.
const FALL: i32 = 12;
const LOST_WAY: i32 = 55;
/// The least and the most room between two times.
const QUIET: (i32, i32) = (8, 60);
/// Pixels for a millisecond in between.
const SCALE: f64 = 0.9;
/// A longer time in which nothing happens is pointed out.
const GAP: Duration = Duration::from_millis(120);

/// A picture's parts, in pixels.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) width: i32,
    pub(super) height: i32,
    /// Where the columns' lines start.
    pub(super) top: i32,
    /// The middle of each column, and its name.
    pub(super) columns: Vec<(i32, Vec<String>)>,
    pub(super) texts: Vec<Text>,
    pub(super) arrows: Vec<Arrow>,
    /// The times at the left: where, and what.
    pub(super) times: Vec<(i32, String)>,
    /// Where nothing happens: from, to, and for how long.
    pub(super) gaps: Vec<(i32, i32, String)>,
}

/// A text and the box it stands in.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) step: usize,
    pub(super) left: i32,
    pub(super) right: i32,
    pub(super) top: i32,
    pub(super) bottom: i32,
    pub(super) lines: Vec<String>,
    pub(super) style: Style,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Label { leftwards: bool, lost: bool },
    Note(Tone),
}

/// An arrow.
#[derive(Debug, Clone)]
pub(super) struct Arrow {
    pub(super) step: usize,
    pub(super) from: (i32, i32),
    pub(super) to: (i32, i32),
    pub(super) end: End,
    /// It says that something failed.
    pub(super) is_error: bool,
}

/// How an arrow ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Head,
    Cross,
    /// It is still on its way.
    Open,
}

/// What is placed at one time: rows, and what each column still allows.
struct Group {
    rows: Vec<(i32, Vec<(i32, i32)>)>,
    /// The first row in which a column is not yet taken.
    free: Vec<usize>,
    /// The texts, with their rows.
    placed: Vec<(usize, Text)>,
}

impl Layout {
    /// Lays out a ladder that is bounded and in the order of time.
    pub(super) fn of(ladder: &Ladder) -> Self {
        let mut layout = Self::with_columns(ladder);
        let steps: Vec<_> = ladder
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.is_drawable(ladder.columns.len()))
            .collect();
        let mut times: BTreeSet<Duration> = steps.iter().map(|(_, step)| step.at).collect();
        times.extend(steps.iter().filter_map(|(_, step)| step.arrival()));
        let mut y = layout.top + SPACE;
        let mut last = None;
        let mut rest = steps.as_slice();
        // Arrows that have left and not come, with their arrival.
        let mut flying: Vec<(Duration, usize, usize)> = Vec::new();
        for at in times {
            y = layout.advance(y, last, at);
            last = Some(at);
            layout.times.push((y, format!("{} ms", millis(at))));
            let (now, later) = rest.split_at(rest.partition_point(|(_, step)| step.at <= at));
            rest = later;
            let mut group = Group::new(ladder.columns.len());
            for (index, step) in now {
                group.place(&layout, *index, step);
            }
            let bottom = layout.settle(group, y);
            layout.depart(now, &mut flying);
            layout.land(at, y, &mut flying);
            y = bottom.max(y + LINE);
        }
        layout.height = y + LINE;
        layout
    }

    fn with_columns(ladder: &Ladder) -> Self {
        let mut layout = Self::default();
        let mut x = TIMES + SIDE;
        let mut last = None;
        for column in &ladder.columns {
            if let Some(last) = last {
                let core = ColumnKind::Core;
                x += if last == core || column.kind == core {
                    CORE_PITCH
                } else {
                    PITCH
                };
            }
            last = Some(column.kind);
            let letters = usize::try_from((CORE_PITCH - SPACE) / CHARACTER).unwrap_or(1);
            let mut name = wrap(&column.name, letters);
            name.truncate(3);
            layout.top = layout.top.max(length(&name) * LINE + 3 * PADDING);
            layout.columns.push((x, name));
        }
        layout.width = x + SIDE + SPACE;
        layout
    }

    /// Returns where a time goes after the one before it.
    fn advance(&mut self, y: i32, last: Option<Duration>, at: Duration) -> i32 {
        let Some(quiet) = last.map(|last| at.saturating_sub(last)) else {
            return y;
        };
        let (least, most) = QUIET;
        #[expect(clippy::cast_possible_truncation, reason = "it is clamped")]
        let room = ((quiet.as_secs_f64() * 1_000.0 * SCALE) as i32).clamp(least, most);
        if quiet >= GAP {
            let (from, to) = (y + SPACE, y + room);
            self.gaps.push((from, to, format!("{} ms", millis(quiet))));
        }
        y + room
    }

    /// Gives the rows of a group their places and returns where they end.
    fn settle(&mut self, group: Group, top: i32) -> i32 {
        let mut tops = vec![top];
        for (height, _) in &group.rows {
            tops.push(tops.last().copied().unwrap_or(top) + height + SPACE);
        }
        for (row, mut text) in group.placed {
            text.top += tops[row];
            text.bottom += tops[row];
            self.texts.push(text);
        }
        tops.last().copied().unwrap_or(top)
    }

    /// Starts the arrows that leave now, below their labels.
    fn depart(&mut self, now: &[(usize, &Step)], flying: &mut Vec<(Duration, usize, usize)>) {
        for (index, step) in now {
            let StepKind::Arrow {
                from,
                to,
                fate,
                label: words,
                ..
            } = &step.kind
            else {
                continue;
            };
            let label = self.texts.iter().rev().find(|text| text.step == *index);
            let Some(bottom) = label.map(|label| label.bottom) else {
                continue;
            };
            let (start, end) = (self.columns[*from].0, self.columns[*to].0);
            let part = (start + (end - start) * LOST_WAY / 100, bottom);
            let (y, to_point, end) = match (fate, step.arrival()) {
                (Fate::Lost(_), _) => (bottom - FALL, part, End::Cross),
                (Fate::Carried, None) => (bottom - FALL, part, End::Open),
                (Fate::Carried, Some(at)) => {
                    flying.push((at, self.arrows.len(), *to));
                    (bottom, (end, bottom), End::Head)
                }
            };
            self.arrows.push(Arrow {
                step: *index,
                from: (start, y),
                to: to_point,
                end,
                is_error: words.starts_with("RST") || words.starts_with("ICMP"),
            });
        }
    }

    /// Ends the arrows that arrive now, each on top of the note about it.
    fn land(&mut self, now: Duration, top: i32, flying: &mut Vec<(Duration, usize, usize)>) {
        let mut claimed = BTreeSet::new();
        for (_, arrow, column) in flying.extract_if(.., |(at, ..)| *at <= now) {
            let arrow = &mut self.arrows[arrow];
            let middle = self.columns[column].0;
            let note = self.texts.iter().find(|text| {
                matches!(text.style, Style::Note(_))
                    && text.step > arrow.step
                    && text.top >= top
                    && text.left + text.right == 2 * middle
                    && !claimed.contains(&text.step)
            });
            arrow.to.1 = match note {
                Some(note) => {
                    claimed.insert(note.step);
                    note.top - HEAD
                }
                None => top,
            };
            arrow.to.1 = arrow.to.1.max(arrow.from.1);
        }
    }
}

impl Group {
    fn new(columns: usize) -> Self {
        Self {
            rows: Vec::new(),
            free: vec![0; columns],
            placed: Vec::new(),
        }
    }

    fn place(&mut self, layout: &Layout, index: usize, step: &Step) {
        match &step.kind {
            StepKind::Note { column, text, tone } => {
                let inside = PITCH - 3 * PADDING - SPACE;
                let lines = wrap(text, usize::try_from(inside / CHARACTER).unwrap_or(1));
                let half = i32::midpoint(widest(&lines), 1) + PADDING;
                let x = layout.columns[*column].0;
                let row = self.row(self.free[*column], x - half, x + half);
                self.free[*column] = row + 1;
                let text = Text {
                    step: index,
                    left: x - half,
                    right: x + half,
                    top: 0,
                    bottom: length(&lines) * LINE + PADDING,
                    lines,
                    style: Style::Note(*tone),
                };
                self.put(row, text);
            }
            StepKind::Arrow { from, to, .. } => {
                let (text, left, right) = label(layout, index, step, *from, *to);
                let row = self.row(self.free[*from], left, right);
                self.free[*from] = row + 1;
                if step.arrival() == Some(step.at) {
                    self.free[*to] = self.free[*to].max(row + 1);
                }
                self.put(row, text);
            }
        }
    }

    /// Returns the first row from `least` on that has room, and takes it.
    fn row(&mut self, least: usize, left: i32, right: i32) -> usize {
        let has_room = |row: &(i32, Vec<(i32, i32)>)| {
            row.1
                .iter()
                .all(|taken| right + SPACE <= taken.0 || taken.1 + SPACE <= left)
        };
        let row = (least..)
            .find(|row| self.rows.get(*row).is_none_or(has_room))
            .unwrap_or(least);
        while self.rows.len() <= row {
            self.rows.push((0, Vec::new()));
        }
        self.rows[row].1.push((left, right));
        row
    }

    fn put(&mut self, row: usize, text: Text) {
        self.rows[row].0 = self.rows[row].0.max(text.bottom);
        self.placed.push((row, text));
    }
}

/// Returns the label of an arrow, and from where to where it takes a row.
fn label(layout: &Layout, index: usize, step: &Step, from: usize, to: usize) -> (Text, i32, i32) {
    let StepKind::Arrow { label, fate, .. } = &step.kind else {
        unreachable!("only arrows have labels");
    };
    let (start, end) = (layout.columns[from].0, layout.columns[to].0);
    let room = ((end - start).abs() - 2 * SPACE).clamp(CORE_PITCH - 2 * SPACE, 2 * PITCH);
    let letters = usize::try_from(room / CHARACTER).unwrap_or(1);
    let mut lines = wrap(label, letters);
    let lost = matches!(fate, Fate::Lost(_));
    let falls = match (fate, step.arrival()) {
        (Fate::Lost(why), _) => {
            lines.extend(wrap(&format!("lost: {why}"), letters));
            FALL
        }
        (Fate::Carried, None) => {
            lines.extend(wrap("still on its way", letters));
            FALL
        }
        (Fate::Carried, Some(_)) => 0,
    };
    let width = widest(&lines);
    let leftwards = end < start;
    let (left, right) = if leftwards {
        (start - SPACE - width, start - SPACE)
    } else {
        (start + SPACE, start + SPACE + width)
    };
    // What does not arrive later is drawn within its row.
    let reach = if falls > 0 || step.arrival() == Some(step.at) {
        end
    } else {
        start
    };
    let text = Text {
        step: index,
        left,
        right,
        top: 0,
        bottom: length(&lines) * LINE + falls,
        lines,
        style: Style::Label { leftwards, lost },
    };
    let (low, high) = (start.min(reach), start.max(reach));
    (text, left.min(low), right.max(high))
}

impl Step {
    fn is_drawable(&self, columns: usize) -> bool {
        match self.kind {
            StepKind::Arrow { from, to, .. } => from != to && from < columns && to < columns,
            StepKind::Note { column, .. } => column < columns,
        }
    }

    /// Returns when a packet arrives that does.
    fn arrival(&self) -> Option<Duration> {
        match &self.kind {
            StepKind::Arrow { arrives, fate, .. } if *fate == Fate::Carried => {
                arrives.map(|arrives| arrives.max(self.at))
            }
            StepKind::Arrow { .. } | StepKind::Note { .. } => None,
        }
    }
}

fn length(lines: &[String]) -> i32 {
    i32::try_from(lines.len()).unwrap_or(i32::MAX)
}

fn widest(lines: &[String]) -> i32 {
    let widest = lines.iter().map(|line| line.chars().count()).max();
    i32::try_from(widest.unwrap_or(0)).unwrap_or(0) * CHARACTER
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::Column;

    const COLUMNS: usize = 5;

    fn step() -> impl Strategy<Value = Step> {
        let text = "[A-Za-z0-9:.> -]{0,90}";
        // Few times, so that much happens at once.
        let at = prop_oneof![Just(0u64), 0..5u64, 0..3_000u64];
        let arrow = (
            0..COLUMNS,
            0..COLUMNS,
            prop::option::of(0..60u64),
            any::<bool>(),
        );
        let kind = prop_oneof![
            Just((None, 0)),
            (arrow.prop_map(Some), Just(0)),
            (Just(None), 0..COLUMNS),
        ];
        (at, kind, text).prop_map(|(at, (arrow, column), text)| {
            let at = Duration::from_millis(at);
            let kind = match arrow {
                Some((from, to, flight, lost)) => StepKind::Arrow {
                    from,
                    to,
                    arrives: flight.map(|flight| at + Duration::from_millis(flight)),
                    label: text,
                    fate: match lost {
                        true => Fate::Lost("random loss".into()),
                        false => Fate::Carried,
                    },
                },
                None => StepKind::Note {
                    column,
                    text,
                    tone: Tone::Good,
                },
            };
            Step { at, kind }
        })
    }

    fn ladder(steps: Vec<Step>) -> Ladder {
        let kinds = [
            ColumnKind::Host,
            ColumnKind::Nat,
            ColumnKind::Core,
            ColumnKind::Nat,
            ColumnKind::Host,
        ];
        let columns = kinds.iter().map(|kind| Column {
            name: "a place".into(),
            kind: *kind,
        });
        Ladder {
            title: String::new(),
            columns: columns.collect(),
            steps,
        }
    }

    proptest! {
        #[test]
        fn texts_never_cover_each_other_and_arrows_end_in_their_columns(
            steps in prop::collection::vec(step(), 0..40),
        ) {
            let ladder = ladder(steps);
            let ladder = ladder.bounded();
            let layout = Layout::of(&ladder);
            for (index, one) in layout.texts.iter().enumerate() {
                prop_assert!(one.top >= layout.top && one.bottom <= layout.height, "{one:?}");
                for other in &layout.texts[index + 1..] {
                    let beside = one.right <= other.left || other.right <= one.left;
                    let apart = one.bottom <= other.top || other.bottom <= one.top;
                    prop_assert!(beside || apart, "{one:?} {other:?}");
                }
            }
            let drawn = ladder.steps.iter().filter(|step| step.is_drawable(COLUMNS));
            prop_assert_eq!(drawn.count(), layout.texts.len());
            for arrow in &layout.arrows {
                let StepKind::Arrow { from, to, .. } = ladder.steps[arrow.step].kind else {
                    panic!("an arrow is made of something else");
                };
                prop_assert_eq!(arrow.from.0, layout.columns[from].0);
                prop_assert!(arrow.from.1 <= arrow.to.1, "{arrow:?}");
                if arrow.end == End::Head {
                    prop_assert_eq!(arrow.to.0, layout.columns[to].0);
                }
            }
            let times = layout.times.windows(2).all(|pair| pair[0].0 + LINE <= pair[1].0);
            prop_assert!(times, "{:?}", layout.times);
        }
    }
}
