//! The matrix of all pairs.

use std::num::NonZero;

use netns_lab::{
    NatSpec,
    contender::Path,
    matrix::{self, Expectation, Kind, Matrix, MatrixError, Options, run_seed},
    preset,
    report::{Expected, Standing},
};
use netns_lab_cli::P2pconnect;

use crate::dial;

/// Everything should connect, so that every failure is on the work list.
fn certain(_dialler: &[NatSpec], _listener: &[NatSpec]) -> Expectation {
    Expectation {
        expected: Expected::Certain,
        reason: "the test says so".into(),
    }
}

fn options(kinds: &[&str], runs: u32) -> Options {
    let kind = |name: &&str| Kind::from(preset::find(name).unwrap());
    Options {
        kinds: kinds.iter().map(kind).collect(),
        runs,
        seed: 7,
        expectation: certain,
        ..Options::default()
    }
}

fn run(options: &Options) -> Matrix {
    matrix::run(options, &P2pconnect, |_| {}).unwrap()
}

const SOME: &[&str] = &["public", "linux-router", "corporate-firewall"];

#[test]
fn the_seed_decides_everything_whoever_does_the_work() {
    let options = options(SOME, 3);
    let alone = Options {
        workers: NonZero::new(1),
        ..options.clone()
    };
    let shared = Options {
        workers: NonZero::new(4),
        ..options.clone()
    };
    let (one, other) = (run(&alone), run(&shared));
    assert_eq!(one.series.cells, other.series.cells);
    assert_eq!(one.shown, other.shown);
    assert_eq!(one.ladders, other.ladders);
}

#[test]
fn a_cell_has_the_same_seed_in_a_smaller_matrix() {
    let whole = run(&options(SOME, 2));
    let part = run(&options(&SOME[1..], 2));
    // linux-router dials corporate-firewall.
    let (of_whole, of_part) = (&whole.series.cells[5], &part.series.cells[1]);
    assert_eq!(of_whole.how, of_part.how);
    assert_eq!(of_whole.median, of_part.median);
    assert_eq!(of_whole.failure, of_part.failure);
}

#[test]
fn a_run_can_be_repeated_alone() {
    let matrix = run(&options(&["linux-router"], 1));
    let seed = run_seed(7, "linux-router", "linux-router", 0);
    let chain = preset::find("linux-router").unwrap().specs();
    let (again, _) = dial([&chain, &chain], Path::default(), seed);
    let after = again.established.map(|it| it.after);
    assert_eq!(matrix.series.cells[0].median, after);
    assert_ne!(seed, run_seed(7, "linux-router", "linux-router", 1));
    assert_ne!(seed, run_seed(8, "linux-router", "linux-router", 0));
    assert_ne!(run_seed(7, "a", "bc", 0), run_seed(7, "ab", "c", 0));
}

#[test]
fn every_cell_is_there_in_order_and_told_of_once() {
    let mut told = Vec::new();
    let options = options(SOME, 2);
    let matrix = matrix::run(&options, &P2pconnect, |progress| {
        told.push((progress.dialler, progress.listener));
        assert_eq!((progress.done, progress.total), (told.len(), 9));
        assert!(progress.successes <= 2);
    });
    let pairs: Vec<_> = (0..3).flat_map(|a| (0..3).map(move |b| (a, b))).collect();
    let cells = matrix.unwrap().series.cells;
    let places: Vec<_> = cells.iter().map(|it| (it.dialler, it.listener)).collect();
    assert_eq!(places, pairs);
    told.sort_unstable();
    assert_eq!(told, pairs);
}

#[test]
fn a_cell_that_fails_is_on_the_work_list_with_the_contenders_words() {
    let options = options(SOME, 2);
    let report = run(&options).into_report(&options);
    let failed: Vec<_> = report
        .work_list()
        .into_iter()
        .map(|(_, cell)| (cell.dialler, cell.listener))
        .collect();
    assert_eq!(failed, [(2, 2)]);
    for (_, cell) in report.work_list() {
        assert_eq!((cell.runs, cell.successes), (2, 0));
        assert_eq!(cell.standing(), Standing::Failed);
        let failure = cell.failure.as_deref().unwrap();
        assert!(
            failure.contains("uses another") || failure.contains("use another"),
            "{failure}"
        );
    }
}

#[test]
fn failures_and_a_success_of_each_way_are_shown_with_their_seeds() {
    let matrix = run(&options(SOME, 2));
    let shown: Vec<_> = matrix
        .shown
        .iter()
        .map(|it| (it.dialler, it.listener))
        .collect();
    // Simultaneous open, accepted, connected and a failure.
    assert_eq!(shown, [(0, 0), (0, 2), (2, 0), (2, 2)]);
    for it in &matrix.shown {
        let seed = run_seed(7, SOME[it.dialler], SOME[it.listener], it.run);
        assert_eq!(it.seed, seed);
    }
}

#[test]
fn a_shown_run_is_drawn_packet_by_packet() {
    let matrix = run(&options(&["linux-router"], 1));
    assert_eq!(matrix.series.cells[0].ladder, Some(0));
    let ladder = matrix.ladders[0].to_text(100);
    for name in ["dialler.nat", "core", "listener.nat", "SYN"] {
        assert!(ladder.contains(name), "{name} is missing in\n{ladder}");
    }
}

#[test]
fn a_success_against_all_expectation_is_an_alarm() {
    let options = Options {
        expectation: |_, _| Expectation {
            expected: Expected::Impossible,
            reason: "the test says so".into(),
        },
        ..options(&["public"], 1)
    };
    let report = run(&options).into_report(&options);
    assert_eq!(report.alarms().len(), 1);
}

#[test]
fn kinds_that_cannot_be_told_apart_are_refused() {
    let refused = matrix::run(&options(&["public", "public"], 1), &P2pconnect, |_| {});
    assert!(matches!(refused, Err(MatrixError::DuplicateKind(name)) if name == "public"));
}

#[test]
fn a_kind_that_cannot_be_built_is_named() {
    let mut options = options(&["public", "openwrt"], 1);
    options.kinds[1].chain[0].port_range.first = 0;
    let error = matrix::run(&options, &P2pconnect, |_| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("openwrt"), "{error}");
}
