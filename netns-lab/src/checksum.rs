//! The Internet checksum and its incremental update.

/// Bytes of a checksum field that stands for "no checksum" in UDP (RFC 768).
pub(crate) const ABSENT: u16 = 0;

/// Returns the checksum field that goes with these bytes (RFC 1071 section 1).
pub(crate) fn compute(parts: &[&[u8]]) -> u16 {
    // Each part but the last has an even length, so that words do not straddle.
    !fold(parts.iter().map(|part| sum(part)).sum())
}

/// Returns the field after some of the bytes it covers have changed (RFC 1624
/// equation 3). Both slices have the same length and start at an even offset.
///
/// A checksum that was wrong stays wrong: the NAT must not hide damage.
pub(crate) fn update(field: u16, old: &[u8], new: &[u8]) -> u16 {
    let removed = words(old).map(|word| u64::from(!word)).sum::<u64>();
    !fold(u64::from(!field) + removed + sum(new))
}

fn sum(bytes: &[u8]) -> u64 {
    // Two words at a time: a carry between them is folded like any other (RFC 1071
    // section 2).
    let pairs = bytes.chunks_exact(4);
    let rest = words(pairs.remainder()).map(u64::from).sum::<u64>();
    let pairs = pairs.map(|pair| match *pair {
        [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
        _ => 0,
    });
    pairs.sum::<u64>() + rest
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u16::from_be_bytes([high, low]),
        [high] => u16::from_be_bytes([high, 0]),
        _ => 0,
    })
}

fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & u64::from(u16::MAX)) + (sum >> 16);
    }
    // Folded to sixteen bits above.
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc1624_section_4_example() {
        // m = 0x5555 becomes m' = 0x3285 where the checksum was 0xDD2F.
        let updated = update(0xDD2F, &[0x55, 0x55], &[0x32, 0x85]);
        assert_eq!(updated, 0x0000);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_computation(
            head in prop::collection::vec(any::<u8>(), 0..9),
            old in prop::collection::vec(any::<u8>(), 1..40),
            new in prop::collection::vec(any::<u8>(), 40),
        ) {
            let new = &new[..old.len()];
            // RFC 1624 section 3 excludes only data that is all zero.
            prop_assume!(new.iter().any(|byte| *byte != 0));
            let head = &[&head[..], &vec![1; 10 - head.len()]].concat();
            let updated = update(compute(&[head, &old]), &old, new);
            prop_assert_eq!(updated, compute(&[head, new]));
        }
    }
}
