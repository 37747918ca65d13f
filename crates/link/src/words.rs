//! Words of others, which may hold anything.

/// The most of somebody's words that is repeated.
const MOST: usize = 200;

/// Returns words that are fit to be shown in a line: no more than a line, and nothing that moves a
/// cursor. What is left out is put in the place of by a question mark.
pub(crate) fn printable(words: &str) -> String {
    let shown = words.chars().take(MOST).map(|it| match it {
        ' '..='~' => it,
        it if it.is_alphanumeric() => it,
        _ => '?',
    });
    shown.collect::<String>().trim().to_owned()
}
