//! Which mappings the coordinator does not believe, and when it is told of them again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// How often the number of tokens between two registrations doubles: up to 64 of them, of which a
/// server gives one each 15 s. A STUN server with a key of somebody else costs that much for ever.
const MAX_DOUBLINGS: u32 = 6;

/// The mappings that the last registration did not prove.
///
/// After a restart a coordinator may have another key, which the tokens of before do not know. The
/// next token is told at once, and if it is as good as the one before, less and less often.
#[derive(Debug, Default)]
pub(super) struct Doubts(BTreeMap<SocketAddr, Doubt>);

#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// How many registrations have brought a new token in vain.
    failed: u32,
    /// How many new tokens come before one is told.
    left: u32,
}

impl Doubts {
    /// Takes in all the mappings that a registration did not prove. `true` if there is one among
    /// them of which that is new.
    pub(super) fn renew(&mut self, unproven: BTreeSet<SocketAddr>) -> bool {
        let before = std::mem::take(&mut self.0);
        let mut is_new = false;
        for address in unproven {
            let doubt = match before.get(&address) {
                // The registration was about something else.
                Some(waiting) if waiting.left > 0 => *waiting,
                known => {
                    is_new |= known.is_none();
                    let failed = known.map_or(0, |known| known.failed + 1);
                    let left = 1 << failed.min(MAX_DOUBLINGS);
                    Doubt { failed, left }
                }
            };
            self.0.insert(address, doubt);
        }
        is_new
    }

    /// Takes in that there is a new token for a mapping, and tells whether the coordinator should
    /// hear of it.
    pub(super) fn count(&mut self, mapped: SocketAddr) -> bool {
        match self.0.get_mut(&mapped) {
            Some(doubt) if doubt.left > 0 => {
                doubt.left -= 1;
                doubt.left == 0
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
        let mut doubts = Doubts::default();
        assert!(!doubts.count(address), "nobody doubts it");
        assert!(doubts.renew(BTreeSet::from([address])));
        let mut needed = Vec::new();
        for _ in 0..9 {
            let mut tokens = 1;
            while !doubts.count(address) {
                tokens += 1;
                // What else is told meanwhile changes nothing.
                assert!(!doubts.renew(BTreeSet::from([address])));
            }
            needed.push(tokens);
            assert!(!doubts.count(address), "it is being told");
            assert!(!doubts.renew(BTreeSet::from([address])));
        }
        assert_eq!(needed, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        doubts.renew(BTreeSet::new());
        assert!(!doubts.count(address), "it is believed now");
        assert!(doubts.renew(BTreeSet::from([address])), "anew");
    }
}
