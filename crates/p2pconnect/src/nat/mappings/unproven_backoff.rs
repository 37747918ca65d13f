//! When the coordinator is told again of a mapping that a registration has not proved.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// How often the number of tokens between two registrations doubles: up to 64 of them, of which a
/// server gives one each 15 s. A STUN server with a key of somebody else costs that much for ever.
const MAX_DOUBLINGS: u32 = 6;

/// The back-off of each mapping that the last registration did not prove.
///
/// After a restart a coordinator may have another key, which the tokens of before do not know. The
/// next token is told at once, and if that proves nothing either, later ones less and less often.
#[derive(Debug, Default)]
pub(super) struct UnprovenBackoff(BTreeMap<SocketAddr, Backoff>);

#[derive(Debug, Clone, Copy)]
struct Backoff {
    /// How many registrations have named a new token in vain.
    failed: u32,
    /// How many new tokens come before one is told.
    left: u32,
}

impl UnprovenBackoff {
    /// Takes in all mappings that a registration did not prove. Returns whether any of them was not
    /// unproven before.
    pub(super) fn renew(&mut self, unproven: BTreeSet<SocketAddr>) -> bool {
        let before = std::mem::take(&mut self.0);
        let mut is_new = false;
        for address in unproven {
            let backoff = match before.get(&address) {
                // The registration was about something else.
                Some(waiting) if waiting.left > 0 => *waiting,
                known => {
                    is_new |= known.is_none();
                    let failed = known.map_or(0, |known| known.failed + 1);
                    let left = 1 << failed.min(MAX_DOUBLINGS);
                    Backoff { failed, left }
                }
            };
            self.0.insert(address, backoff);
        }
        is_new
    }

    /// Takes in that there is a new token for a mapping, and returns whether the coordinator should
    /// be told of it.
    pub(super) fn count(&mut self, mapped: SocketAddr) -> bool {
        match self.0.get_mut(&mapped) {
            Some(backoff) if backoff.left > 0 => {
                backoff.left -= 1;
                backoff.left == 0
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_prove_nothing_are_told_less_and_less_often() {
        let address = SocketAddr::from(([203, 0, 113, 7], 1));
        let mut backoff = UnprovenBackoff::default();
        assert!(!backoff.count(address), "it is not unproven");
        assert!(backoff.renew(BTreeSet::from([address])));
        let mut needed = Vec::new();
        for _ in 0..9 {
            let mut tokens = 1;
            while !backoff.count(address) {
                tokens += 1;
                // What else is told meanwhile changes nothing.
                assert!(!backoff.renew(BTreeSet::from([address])));
            }
            needed.push(tokens);
            assert!(!backoff.count(address), "it is being told");
            assert!(!backoff.renew(BTreeSet::from([address])));
        }
        assert_eq!(needed, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        backoff.renew(BTreeSet::new());
        assert!(!backoff.count(address), "it is proved now");
        assert!(backoff.renew(BTreeSet::from([address])), "anew");
    }
}
