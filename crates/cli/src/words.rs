//! Errors and times, for people.

use std::time::Duration;

/// Returns what an error and its causes say, each of them once: some errors have the words of their
/// cause in their own.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// Returns a text without the numbers that the system has for its errors, which mean nothing on
/// another machine.
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

/// Returns a time that was computed in tenths of seconds, or in milliseconds where it is less than
/// a second.
pub(crate) fn in_tenths(time: Duration) -> String {
    let unit = if time < Duration::from_secs(1) {
        1
    } else {
        100
    };
    let units = (time.as_secs_f64() * 1e3 / f64::from(unit)).round();
    let rounded = Duration::from_secs_f64(units * f64::from(unit) / 1e3);
    humantime::format_duration(rounded).to_string()
}

/// Shows control characters as escapes, except for the ends of lines: what others have sent must
/// not move a terminal's cursor.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::io;

    use p2pconnect::{BindError, CoordinatorError};
    use p2pconnect_stun::{MappingError, framing::FrameError};

    use super::*;

    #[test]
    fn a_cause_that_an_error_tells_of_itself_is_said_once() {
        let cause = io::Error::from_raw_os_error(1);
        let error = anyhow::anyhow!("no entry ({cause})");
        let error = anyhow::Error::new(cause).context(error.to_string());
        let error = error.context("no lab");
        assert_eq!(
            in_words(&with_causes(&error)),
            "no lab: no entry (Operation not permitted)"
        );
    }

    #[test]
    fn what_is_wrong_with_a_server_is_said_once() {
        let reason = MappingError::NotStun(FrameError::MagicCookie);
        let server = ([192, 0, 2, 1], 3478).into();
        let told = with_causes(&BindError::Stun { server, reason }.into());
        assert_eq!(told.matches("magic cookie").count(), 1, "{told}");
        assert!(told.ends_with("is that a STUN server?"), "{told}");
        let lost = CoordinatorError::GoingAway { retry_after: None };
        let told = with_causes(&BindError::Coordinator(lost.clone()).into());
        assert_eq!(told, lost.to_string());
    }

    #[test]
    fn what_is_left_of_a_time_is_told_in_tenths() {
        for (millis, told) in [
            (15_000, "15s"),
            (2_999, "3s"),
            (1_512, "1s 500ms"),
            (512, "512ms"),
        ] {
            assert_eq!(in_tenths(Duration::from_millis(millis)), told);
        }
    }

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
