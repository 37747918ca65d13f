//! Ladders for a terminal.

use netns_lab::report::{Ladder, Tone};

use crate::sample;

#[test]
fn a_ladder_is_readable_without_a_picture() {
    let text = sample::ladder().to_text(100);
    assert_eq!(text, include_str!("ladder.txt"), "\n{text}");
}

#[test]
fn no_line_is_longer_than_the_terminal() {
    for width in [80, 100, 200] {
        let text = sample::ladder().to_text(width);
        assert!(text.lines().all(|line| line.chars().count() <= width));
    }
}

#[test]
fn a_ladder_longer_than_anybody_reads_is_cut() {
    let mut ladder = sample::ladder();
    ladder.steps = (0..1_000)
        .map(|at| sample::note(at, 1, "again", Tone::Neutral))
        .collect();
    let text = ladder.to_string();
    assert!(text.contains("600 more steps are not shown"), "{text}");
    assert_eq!(text.matches("again").count(), 400);
}

#[test]
fn columns_that_do_not_exist_and_terminal_codes_are_harmless() {
    let mut ladder = sample::ladder();
    ladder.columns[1].name = "\u{1b}[2J".repeat(30);
    ladder.steps.push(sample::arrow(2, 3, 99, 5, "nowhere"));
    ladder.steps.push(sample::note(3, 99, "nowhere", Tone::Bad));
    let text = ladder.to_text(0);
    assert!(!text.contains("nowhere") && !text.contains('\u{1b}'));
    assert_eq!(Ladder::default().to_string(), "\n\n");
}
