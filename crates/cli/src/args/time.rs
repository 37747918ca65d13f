//! How times are written.

use std::time::Duration;

/// How a time may be written.
const SUCH_AS: &str = "write 90 for seconds, or 500ms, 90s, 15m or 1h";

/// Reads a time, in seconds where nothing else is said.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ if number.is_empty() => return Err(format!("'{unit}' is no time; {SUCH_AS}")),
        _ => {
            return Err(format!(
                "'{unit}' is no unit of time; use ms, s, m or h, or none for seconds"
            ));
        }
    };
    let value: f64 = number.parse().map_err(|_| match number {
        "" => format!("the number is missing; {SUCH_AS}"),
        _ => format!("'{number}' is not a number; {SUCH_AS}"),
    })?;
    Duration::try_from_secs_f64(value * scale)
        .ok()
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(3600))
        .ok_or_else(|| "the time must be above zero and at most an hour".to_owned())
}

/// Reads a time that TCP can count: three questions a second apart are the least.
pub(super) fn stream_silence(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < Duration::from_secs(3) {
        return Err("the time must be 3s or more".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(duration("15s").unwrap(), Duration::from_secs(15));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1.5m").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        assert_eq!(duration("3").unwrap(), Duration::from_secs(3));
        for wrong in ["", "s", "0s", "-1s", "5h", "61m", "nan", "inf", "1e99s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "s", "soon", "1,5s"] {
            let error = duration(wrong).unwrap_err();
            assert!(error.ends_with("90s, 15m or 1h"), "{error}");
        }
    }
}
