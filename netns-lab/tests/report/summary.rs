//! The summary for a terminal.

use crate::sample;

#[test]
fn every_cell_and_all_work_is_in_the_summary() {
    let text = sample::small().summary();
    assert_eq!(text, include_str!("summary.txt"), "\n{text}");
}

#[test]
fn terminal_codes_do_not_pass() {
    let mut report = sample::small();
    report.title = "\u{1b}]0;title\u{7}".into();
    report.kinds[0].name = "\u{1b}[31m".into();
    report.series[0].cells[2].failure = Some("one\ntwo\u{1b}[2J".into());
    let text = report.summary();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'));
    assert!(text.contains("failure: one two"), "{text}");
}
