//! Numbers that mean nothing. They are sent now and then, so that whoever cannot cope with what it
//! does not know is found out before there is anything new (RFC 8701).

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    Candidate, CandidateKind, PunchPort,
    message::{Extension, Extensions, Unknown},
};

/// One message in so many carries something that means nothing.
const ONE_IN: u64 = 16;

/// Decides by chance which messages carry something that means nothing.
#[derive(Debug)]
pub struct GreaseSource(AtomicU64);

impl GreaseSource {
    /// Returns a source whose decisions follow from the seed.
    #[must_use]
    pub const fn new(seed: [u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = seed;
        Self(AtomicU64::new(u64::from_be_bytes([a, b, c, d, e, f, g, h])))
    }

    /// Decides on the next message: it carries what is returned, if anything is.
    pub fn draw(&self) -> Option<Grease> {
        let random = self.next();
        random
            .is_multiple_of(ONE_IN)
            .then_some(Grease(random / ONE_IN))
    }

    /// Returns the extensions of the next message that says nothing else in them.
    pub fn extensions(&self) -> Extensions {
        Extensions(self.draw().map(Grease::extension).into_iter().collect())
    }

    /// The generator SplitMix64, which spreads well and protects nothing.
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let state = self.0.fetch_add(STEP, Ordering::Relaxed);
        let mut mixed = state.wrapping_add(STEP);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
}

/// Something that means nothing, in all the forms that a message can carry.
#[derive(Debug, Clone, Copy)]
pub struct Grease(u64);

impl Grease {
    /// Tells whether a number of any registry is one that never means anything.
    #[must_use]
    pub const fn is_reserved(number: u16) -> bool {
        number & 0x8F0F == 0x0A0A
    }

    /// Returns a number that never means anything, for a feature.
    #[must_use]
    pub const fn number(self) -> u16 {
        let [.., high, low] = self.0.to_be_bytes();
        u16::from_be_bytes([high & 0x70 | 0x0A, low & 0xF0 | 0x0A])
    }

    /// Returns an extension, which may be passed over.
    #[must_use]
    pub fn extension(self) -> Extension {
        Extension {
            kind: self.number(),
            value: self.value(),
        }
    }

    /// Returns a message.
    #[must_use]
    pub fn message(self) -> Unknown {
        Unknown {
            kind: self.number(),
            fields: self.value(),
        }
    }

    /// Returns a candidate.
    #[must_use]
    pub const fn candidate(self) -> Candidate {
        Candidate {
            kind: CandidateKind::Reserved(self.number()),
            address: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            punch_port: PunchPort::PRIMARY,
            token: None,
        }
    }

    /// Returns an ALPN protocol name, one of those that RFC 8701 reserves.
    #[must_use]
    pub const fn alpn(self) -> [u8; 2] {
        let [.., low] = self.0.to_be_bytes();
        [low & 0xF0 | 0x0A; 2]
    }

    /// Up to 15 bytes.
    fn value(self) -> Vec<u8> {
        let bytes = self.0.to_be_bytes();
        let length = usize::from(bytes[5] % 16);
        bytes.into_iter().cycle().take(length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_in_sixteen_carries_what_is_reserved_and_never_required() {
        let source = GreaseSource::new([7; 32]);
        let drawn: Vec<_> = (0..16_000).filter_map(|_| source.draw()).collect();
        assert!((900..1_100).contains(&drawn.len()), "{}", drawn.len());
        for grease in &drawn {
            assert!(Grease::is_reserved(grease.number()));
            let extensions = Extensions(vec![grease.extension()]);
            assert_eq!(extensions.unknown_required(), None);
            assert!(extensions.are_within_limits());
        }
        let mut numbers: Vec<_> = drawn.iter().map(|it| it.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 128, "all of them occur");
    }

    #[test]
    fn a_seed_decides() {
        let drawn = |seed| {
            let source = GreaseSource::new([seed; 32]);
            (0..100)
                .map(|_| source.draw().map(Grease::message))
                .collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
