//! Texts of others, made harmless, and durations in words.

use std::{fmt, fmt::Write as _, time::Duration};

/// Stands for characters that would do something else than be seen.
const REPLACEMENT: char = '\u{fffd}';

/// Returns a text as one line without control characters, which could make a terminal or a reader
/// take it for something else.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\t' | '\r' => ' ',
            // What turns the direction of text around, or splits lines.
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                REPLACEMENT
            }
            character if character.is_control() => REPLACEMENT,
            character => character,
        })
        .collect()
}

/// Adds to a text.
pub(super) fn push(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("a String takes everything");
}

/// Returns a duration in milliseconds, with as many digits as matter.
pub(super) fn millis(duration: Duration) -> String {
    let micros = duration.as_micros();
    let (whole, part) = (micros / 1_000, micros % 1_000);
    match (whole, part) {
        (_, 0) => format!("{whole}"),
        (0..10, _) => format!("{whole}.{part:03}")
            .trim_end_matches('0')
            .to_owned(),
        (10..1_000, 100..) => format!("{whole}.{}", part / 100),
        _ => format!("{whole}"),
    }
}

/// Breaks a cleaned text into lines of at most `width` characters, between words where that is
/// possible, else behind a hyphen.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in clean(text).split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        while word.len() > width {
            let hyphen = word[..width].iter().rposition(|one| *one == '-');
            let cut = hyphen.map_or(width, |hyphen| hyphen + 1);
            lines.push(word.drain(..cut).collect());
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        length += word.len();
        line.extend(word);
    }
    if length > 0 || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_the_digits_that_matter() {
        let of = |micros| millis(Duration::from_micros(micros));
        assert_eq!(of(0), "0");
        assert_eq!(of(20_000), "20");
        assert_eq!(of(3), "0.003");
        assert_eq!(of(1_250), "1.25");
        assert_eq!(of(20_050), "20");
        assert_eq!(of(20_150), "20.1");
        assert_eq!(of(1_020_150), "1020");
    }

    #[test]
    fn harmful_characters_are_taken_out() {
        assert_eq!(clean("a\u{1b}[2J\u{202e}b\nc"), "a\u{fffd}[2J\u{fffd}b c");
    }

    #[test]
    fn words_too_long_for_a_line_break_at_hyphens() {
        let lines = wrap("(address-and-port-dependent filtering)", 22);
        assert_eq!(lines, ["(address-and-port-", "dependent filtering)"]);
        assert_eq!(wrap("abcdef", 4), ["abcd", "ef"]);
        assert_eq!(wrap("", 4), [""]);
    }

    proptest! {
        #[test]
        fn wrapped_lines_fit_and_lose_nothing(text in ".{0,80}", width in 1usize..30) {
            let lines = wrap(&text, width);
            prop_assert!(!lines.is_empty());
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
            let letters = |text: &str| -> String { text.split_whitespace().collect() };
            prop_assert_eq!(letters(&lines.concat()), letters(&clean(&text)));
        }
    }
}
