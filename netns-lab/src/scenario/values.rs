//! Numbers with units.

use std::time::Duration;

pub(super) const DURATION: &str =
    "a duration such as \"20ms\", \"1.5s\", \"2min\", \"6h\" or \"5d\", at most 365d";
pub(super) const RATE: &str =
    "a rate of at least 1 bit/s, such as \"10Mbit/s\", with bit/s, kbit/s, Mbit/s or Gbit/s";
pub(super) const SIZE: &str =
    "a size below 4 GiB, such as \"64KiB\" or \"1500B\", with B, kB, MB, KiB or MiB";
pub(super) const PROBABILITY: &str = "a fraction from 0 to 1 or a percentage such as \"2.5%\"";

/// Longer than any timer, and short enough that sums of them are no trouble.
const MAX_SECONDS: f64 = 365.0 * 24.0 * 3600.0;

const SECONDS: [(&str, f64); 7] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

const BITS: [(&str, f64); 4] = [
    ("bit/s", 1.0),
    ("kbit/s", 1e3),
    ("Mbit/s", 1e6),
    ("Gbit/s", 1e9),
];

const BYTES: [(&str, f64); 5] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
];

/// Reads a number that is not negative, and its unit.
fn quantity(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let digits = |letter: char| letter.is_ascii_digit() || letter == '.';
    let unit_at = text.find(|letter| !digits(letter))?;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some(number * factor).filter(|number| number.is_finite())
}

pub(super) fn duration(text: &str) -> Option<Duration> {
    let seconds = quantity(text, &SECONDS)?;
    let bounded = (seconds <= MAX_SECONDS).then_some(seconds)?;
    Duration::try_from_secs_f64(bounded).ok()
}

pub(super) fn rate(text: &str) -> Option<u64> {
    let bits = quantity(text, &BITS)?.round();
    (1.0..=1e15).contains(&bits).then_some(bits as u64)
}

pub(super) fn size(text: &str) -> Option<u32> {
    let bytes = quantity(text, &BYTES)?.round();
    (bytes <= f64::from(u32::MAX)).then_some(bytes as u32)
}

pub(super) fn percentage(text: &str) -> Option<f64> {
    quantity(text, &[("%", 1.0)]).map(|percent| percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_exactly() {
        for (text, expected) in [
            ("20ms", Duration::from_millis(20)),
            ("1.5s", Duration::from_millis(1500)),
            ("0 s", Duration::ZERO),
            ("250us", Duration::from_micros(250)),
            ("2min", Duration::from_secs(120)),
            ("5d", Duration::from_secs(432_000)),
        ] {
            assert_eq!(duration(text), Some(expected), "{text}");
        }
        assert_eq!(rate("10Mbit/s"), Some(10_000_000));
        assert_eq!(rate("1.5kbit/s"), Some(1_500));
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("1500B"), Some(1_500));
        assert_eq!(percentage("2.5%"), Some(0.025));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "",
            "20",
            "ms",
            "-1s",
            "1e3s",
            "1.2.3s",
            "1 fortnight",
            "366d",
            "1s ",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(rate("0bit/s"), None);
        assert_eq!(rate("10Mbit"), None);
        assert_eq!(size("5000MiB"), None);
        assert_eq!(percentage("5"), None);
    }
}
