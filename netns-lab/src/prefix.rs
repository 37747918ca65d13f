//! Checksum-neutral translation of IPv6 prefixes (RFC 6296 section 3).

use std::net::Ipv6Addr;

use p2pconnect_nat::PrefixPair;
use smoltcp::wire::checksum;

/// The longest prefix whose checksum is made up for in the subnet number (RFC 6296 section 3.4).
const MAX_LENGTH_BEFORE_SUBNET: u8 = 48;

/// Returns whether an address is in the external prefix.
pub(super) fn is_external(pair: &PrefixPair, address: Ipv6Addr) -> bool {
    (address.to_bits() ^ pair.external.to_bits()) & pair.mask() == 0
}

/// Returns the external address of an internal one, or `None` if it is not in the internal prefix
/// or has none.
pub(super) fn translate(pair: &PrefixPair, address: Ipv6Addr) -> Option<Ipv6Addr> {
    let mask = pair.mask();
    if (address.to_bits() ^ pair.internal.to_bits()) & mask != 0 {
        return None;
    }
    let prefix = pair.external.to_bits() & mask;
    let translated = Ipv6Addr::from_bits(prefix | address.to_bits() & !mask);
    let mut words = translated.segments();
    let at = adjusted_word(pair.length, &words)?;
    let words = words.get_mut(at..)?;
    let (word, _) = words.split_first_mut()?;
    // The sum of the address stays what it was, so no checksum changes.
    let before = checksum::data(&address.octets());
    let after = checksum::data(&translated.octets());
    let adjusted = checksum::combine(&[*word, before, !after]);
    let adjusted = if adjusted == 0xFFFF { 0 } else { adjusted };
    let shift = 112 - 16 * at;
    let cleared = translated.to_bits() & !(0xFFFF << shift);
    Some(Ipv6Addr::from_bits(cleared | u128::from(adjusted) << shift))
}

/// Chooses the word that makes up for the change. All ones cannot, because it could not be told
/// from zero on the way back.
fn adjusted_word(length: u8, words: &[u16; 8]) -> Option<usize> {
    let candidates = if length <= MAX_LENGTH_BEFORE_SUBNET {
        3..4
    } else if words[4..] == [0; 4] {
        // RFC 6296 section 3.5: the subnet-router anycast address stays inside.
        return None;
    } else {
        4..8
    };
    candidates.into_iter().find(|at| words[*at] != 0xFFFF)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(length: u8) -> PrefixPair {
        PrefixPair {
            internal: "fd01:203:405::".parse().unwrap(),
            external: "2001:db8:1::".parse().unwrap(),
            length,
        }
    }

    #[test]
    fn rfc6296_section_3_6_example() {
        let internal = "fd01:203:405:1::1234".parse().unwrap();
        let external = "2001:db8:1:d550::1234".parse().unwrap();
        assert_eq!(translate(&pair(48), internal), Some(external));
    }

    #[test]
    fn what_cannot_be_translated_is_said_to_be() {
        for (length, address) in [
            (48, "fd01:203:406::1"),
            (48, "fd01:203:405:ffff::1"),
            (64, "fd01:203:405::"),
            (64, "fd01:203:405:0:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(translate(&pair(length), address.parse().unwrap()), None);
        }
    }

    proptest! {
        #[test]
        fn addresses_keep_their_checksum_and_come_back(length in 33u8..=64, host: u128) {
            let pair = pair(length);
            let bits = pair.internal.to_bits() & pair.mask() | host & !pair.mask();
            let internal = Ipv6Addr::from_bits(bits);
            if let Some(external) = translate(&pair, internal) {
                prop_assert!(is_external(&pair, external));
                let sum = |address: Ipv6Addr| checksum::data(&address.octets()) % 0xFFFF;
                prop_assert_eq!(sum(internal), sum(external));
                let back = PrefixPair {
                    internal: pair.external,
                    external: pair.internal,
                    ..pair
                };
                prop_assert_eq!(translate(&back, external), Some(internal));
            }
        }
    }
}
