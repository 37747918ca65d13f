//! Reports for the tests.

use std::time::Duration;

use netns_lab::report::{
    Cell, Column, ColumnKind, Expected, Fate, Kind, Ladder, Report, Series, Step, StepKind, Tone,
};

pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) fn column(name: &str, kind: ColumnKind) -> Column {
    let name = name.to_owned();
    Column { name, kind }
}

pub(crate) fn arrow(at: u32, from: usize, to: usize, arrives: u32, label: &str) -> Step {
    let kind = StepKind::Arrow {
        from,
        to,
        arrives: Some(MS * arrives),
        label: label.to_owned(),
        fate: Fate::Carried,
    };
    Step { at: MS * at, kind }
}

pub(crate) fn lost(at: u32, from: usize, to: usize, label: &str, why: &str) -> Step {
    let kind = StepKind::Arrow {
        from,
        to,
        arrives: None,
        label: label.to_owned(),
        fate: Fate::Lost(why.to_owned()),
    };
    Step { at: MS * at, kind }
}

pub(crate) fn note(at: u32, column: usize, text: &str, tone: Tone) -> Step {
    let text = text.to_owned();
    let kind = StepKind::Note { column, text, tone };
    Step { at: MS * at, kind }
}

/// A SYN that is answered by RST, one that is lost, and one after a long time.
pub(crate) fn ladder() -> Ladder {
    let columns = vec![
        column("a", ColumnKind::Host),
        column("nat a", ColumnKind::Nat),
        column("core", ColumnKind::Core),
        column("nat b", ColumnKind::Nat),
        column("b", ColumnKind::Host),
    ];
    let drop = "DROP no mapping for 203.0.113.2:5000, answered by RST";
    let steps = vec![
        arrow(0, 0, 1, 0, "SYN :4000 > 203.0.113.2:5000"),
        note(0, 1, "MAP 10.0.0.2:4000 -> 203.0.113.1:4000", Tone::Neutral),
        arrow(0, 1, 3, 40, "SYN :4000 > 203.0.113.2:5000"),
        lost(10, 4, 3, "SYN :5000 > 203.0.113.1:4000", "random loss"),
        note(40, 3, drop, Tone::Bad),
        arrow(40, 3, 1, 80, "RST,ACK :5000 > 203.0.113.1:4000"),
        arrow(80, 1, 0, 80, "RST,ACK :5000 > 10.0.0.2:4000"),
        note(80, 0, "ended its socket", Tone::Bad),
        arrow(1010, 4, 3, 1010, "SYN :5000 > 203.0.113.1:4000"),
        note(1010, 3, "MAP 10.0.0.2:5000 -> 203.0.113.2:5000", Tone::Good),
    ];
    let title = "a dials b <home>".to_owned();
    Ladder {
        title,
        columns,
        steps,
    }
}

pub(crate) fn cell(dialler: usize, listener: usize, successes: u32, expected: Expected) -> Cell {
    Cell {
        dialler,
        listener,
        runs: 10,
        successes,
        median: (successes > 0).then_some(MS * 85),
        p95: (successes > 0).then_some(MS * 300),
        worst: (successes > 0).then_some(MS * 340),
        bound: Some(MS * 80),
        gave_up: (successes < 10).then_some(MS * 700),
        how: Vec::from_iter((successes > 0).then(|| ("simultaneous open".to_owned(), successes))),
        expected,
        reason: format!("reason of {dialler} and {listener}"),
        failure: (successes < 10).then(|| format!("failure of {dialler} and {listener}")),
        ladder: None,
    }
}

/// Three kinds with a cell of every standing.
pub(crate) fn small() -> Report {
    let kind = |name: &str| Kind {
        name: name.to_owned(),
        title: format!("{name} as it comes"),
    };
    let mut cells = vec![
        cell(0, 0, 10, Expected::Certain),
        cell(0, 1, 7, Expected::Certain),
        cell(0, 2, 0, Expected::Certain),
        cell(1, 0, 4, Expected::Chance(0.5)),
        cell(1, 1, 0, Expected::Impossible),
        cell(1, 2, 1, Expected::Impossible),
        cell(2, 0, 0, Expected::Chance(0.05)),
        cell(2, 1, 0, Expected::Impossible),
    ];
    cells[7].runs = 0;
    cells[2].ladder = Some(0);
    Report {
        title: "Matrix".into(),
        path: "20 ms from each host to the core".into(),
        seed: 7,
        kinds: vec![kind("linux"), kind("symmetric"), kind("x")],
        series: vec![Series {
            name: "punch agent".into(),
            ground: "virtual time".into(),
            cells,
            took: MS * 1500,
        }],
        ladders: vec![ladder()],
        notes: vec!["A note.".into()],
    }
}

/// All presets, each of whose pairs connects: as wide as a report usually is.
pub(crate) fn of_presets() -> Report {
    let presets = netns_lab::preset::all();
    let kinds: Vec<_> = presets
        .iter()
        .map(|preset| Kind {
            name: preset.name.into(),
            title: preset.title.into(),
        })
        .collect();
    let pairs = (0..kinds.len()).flat_map(|a| (0..kinds.len()).map(move |b| (a, b)));
    let mut report = small();
    report.series[0].cells = pairs
        .map(|(dialler, listener)| cell(dialler, listener, 10, Expected::Certain))
        .collect();
    report.kinds = kinds;
    report
}
