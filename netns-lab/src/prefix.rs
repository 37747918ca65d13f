//! Checksum-neutral translation of IPv6 prefixes (RFC 6296 section 3).

use std::net::Ipv6Addr;

use smoltcp::wire::checksum;

/// The longest prefix that leaves room for a checksum in the interface
/// identifier (RFC 6296 section 3.5).
const MAX_LENGTH: u8 = 64;

/// The longest prefix whose checksum is made up for in the subnet number
/// (RFC 6296 section 3.4).
const MAX_LENGTH_BEFORE_SUBNET: u8 = 48;

/// An internal IPv6 prefix and the external one that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixPair {
    /// An address in the internal prefix.
    pub internal: Ipv6Addr,
    /// An address in the external prefix.
    pub external: Ipv6Addr,
    /// The length of both in bits, 1 to 64.
    pub length: u8,
}

impl PrefixPair {
    pub(crate) fn is_valid(&self) -> bool {
        let mask = self.mask();
        let differ = self.internal.to_bits() & mask != self.external.to_bits() & mask;
        (1..=MAX_LENGTH).contains(&self.length) && differ
    }

    pub(super) fn is_external(&self, address: Ipv6Addr) -> bool {
        (address.to_bits() ^ self.external.to_bits()) & self.mask() == 0
    }

    /// Returns the external address of an internal one, or `None` if it is not
    /// in the internal prefix or has none.
    pub(super) fn translate(&self, address: Ipv6Addr) -> Option<Ipv6Addr> {
        let mask = self.mask();
        if (address.to_bits() ^ self.internal.to_bits()) & mask != 0 {
            return None;
        }
        let prefix = self.external.to_bits() & mask;
        let translated = Ipv6Addr::from_bits(prefix | address.to_bits() & !mask);
        let mut words = translated.segments();
        let at = self.adjusted_word(&words)?;
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

    /// Chooses the word that makes up for the change. All ones cannot, because
    /// it could not be told from zero on the way back.
    fn adjusted_word(&self, words: &[u16; 8]) -> Option<usize> {
        let candidates = if self.length <= MAX_LENGTH_BEFORE_SUBNET {
            3..4
        } else if words[4..] == [0; 4] {
            // RFC 6296 section 3.5: the subnet-router anycast address stays inside.
            return None;
        } else {
            4..8
        };
        candidates.into_iter().find(|at| words[*at] != 0xFFFF)
    }

    fn mask(&self) -> u128 {
        let host_bits = 128 - u32::from(self.length.min(128));
        u128::MAX.checked_shl(host_bits).unwrap_or_default()
    }
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
        assert_eq!(pair(48).translate(internal), Some(external));
    }

    #[test]
    fn what_cannot_be_translated_is_said_to_be() {
        for (length, address) in [
            (48, "fd01:203:406::1"),
            (48, "fd01:203:405:ffff::1"),
            (64, "fd01:203:405::"),
            (64, "fd01:203:405:0:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(pair(length).translate(address.parse().unwrap()), None);
        }
    }

    proptest! {
        #[test]
        fn addresses_keep_their_checksum_and_come_back(length in 33u8..=64, host: u128) {
            let pair = pair(length);
            let bits = pair.internal.to_bits() & pair.mask() | host & !pair.mask();
            let internal = Ipv6Addr::from_bits(bits);
            if let Some(external) = pair.translate(internal) {
                prop_assert!(pair.is_external(external));
                let sum = |address: Ipv6Addr| checksum::data(&address.octets()) % 0xFFFF;
                prop_assert_eq!(sum(internal), sum(external));
                let back = PrefixPair {
                    internal: pair.external,
                    external: pair.internal,
                    ..pair
                };
                prop_assert_eq!(back.translate(external), Some(internal));
            }
        }
    }
}
