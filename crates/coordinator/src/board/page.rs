//! Pages of a topic's members: a random sample, which goes on with others.

use std::collections::BTreeMap;

use p2pconnect_proto::{
    PeerId,
    board::Member,
    message::{Cookie, Extensions, Found},
};

/// Where a page begins, in an order of all members that chance decides anew for each look-up.
///
/// Each member has a place in that order that follows from its id and a random number. So a page
/// needs nothing but this, whoever comes or goes meanwhile; several nodes of a cluster agree on the
/// order, and the first page is a sample of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    random: u64,
    /// The first place on the page.
    place: u64,
}

impl Position {
    /// Returns where the first page begins in an order of its own.
    pub(super) const fn random(random: [u8; 8]) -> Self {
        Self {
            random: u64::from_be_bytes(random),
            place: 0,
        }
    }

    /// Returns where a page begins by the cookie of the one before. Any bytes are a place in some
    /// order.
    #[must_use]
    pub fn of_cookie(cookie: Cookie) -> Self {
        let bits = u128::from_be_bytes(cookie.0);
        let [random, place] = [bits >> 64, bits & u128::from(u64::MAX)];
        let half = |it| u64::try_from(it).expect("these are 64 bits");
        Self {
            random: half(random),
            place: half(place),
        }
    }

    /// Returns the cookie of the page that begins here.
    #[must_use]
    pub fn cookie(self) -> Cookie {
        let bits = u128::from(self.random) << 64 | u128::from(self.place);
        Cookie(bits.to_be_bytes())
    }

    /// Returns the place of a peer.
    fn place_of(self, peer: &PeerId) -> u64 {
        let (words, _) = peer.as_bytes().as_chunks();
        let words = words.iter().map(|it| u64::from_be_bytes(*it));
        words.fold(mixed(self.random), |place, word| mixed(place ^ word))
    }

    /// Returns where the page behind one begins that ends at a place, if there is a further place.
    fn behind(self, last: u64) -> Option<Self> {
        let place = last.checked_add(1)?;
        Some(Self { place, ..self })
    }
}

/// Mixes the bits of a number as SplitMix64 does. Whoever chooses an id does not know the random
/// number beside it.
const fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

/// Returns the page of so many members that begins at a position.
pub(super) fn page(members: impl Iterator<Item = Member>, from: Position, most: usize) -> Found {
    // One more than the page has, which tells whether there is a further one.
    let mut first = BTreeMap::new();
    for member in members {
        let place = from.place_of(&member.peer);
        let is_behind = |last: &(u64, PeerId)| (place, member.peer) > *last;
        let is_too_far =
            first.len() > most && first.last_key_value().is_some_and(|it| is_behind(it.0));
        if place < from.place || is_too_far {
            continue;
        }
        first.insert((place, member.peer), member);
        if first.len() > most + 1 {
            first.pop_last();
        }
    }
    let has_more = first.len() > most;
    if has_more {
        first.pop_last();
    }
    let next = match first.last_key_value() {
        Some(((place, _), _)) if has_more => from.behind(*place),
        Some(_) | None => None,
    };
    Found {
        cookie: next.map(Position::cookie),
        members: first.into_values().collect(),
        extensions: Extensions::default(),
    }
}

/// Makes one page of so many members of those that several nodes of a cluster have for a position.
#[must_use]
pub fn merge(pages: Vec<Found>, from: Position, most: usize) -> Found {
    let cookies = pages.iter().filter_map(|it| it.cookie);
    // Behind its page a node may have others that the pages of further nodes go beyond.
    let bound = cookies.map(|it| Position::of_cookie(it).place).min();
    let members = pages.into_iter().flat_map(|it| it.members);
    let within = members.filter(|it| bound.is_none_or(|end| from.place_of(&it.peer) < end));
    let mut merged = page(within, from, most);
    if merged.cookie.is_none() {
        let next = bound.map(|place| Position { place, ..from });
        merged.cookie = next.map(Position::cookie);
    }
    merged
}
