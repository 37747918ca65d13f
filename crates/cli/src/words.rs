//! The system's errors, for people.

/// Returns a text without the numbers that the system has for its errors, which mean nothing on another machine.
pub(crate) fn in_words(text: &str) -> String {
    const NUMBER: &str = " (os error ";

    let mut words = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(NUMBER) {
        words.push_str(before);
        let behind = after.trim_start_matches(|c: char| c.is_ascii_digit());
        rest = match behind.strip_prefix(')') {
            Some(behind) if behind.len() + 1 < after.len() => behind,
            _ => {
                words.push_str(NUMBER);
                after
            }
        };
    }
    words.push_str(rest);
    words
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn no_number_of_the_system_is_told() {
        let error = io::Error::from_raw_os_error(110).to_string();
        assert!(error.contains("110"), "{error}");
        let words = in_words(&format!("{error}; and {error}, again"));
        assert!(
            !words.contains("110") && words.ends_with(", again"),
            "{words}"
        );
        for other in [
            "",
            "(os error 7)",
            "a (os error x)",
            "a (os error )",
            "a (os error 7",
        ] {
            assert_eq!(in_words(other), other);
        }
    }
}
