//! Work that a coordinator asks of peers where many come at once.

use sha2::{Digest, Sha256};

use crate::{
    PeerId,
    codec::wire::{Wire, fields},
    message::{Extension, Extensions},
};

/// The type of the extension of a refusal that has a puzzle in it.
const PUZZLE: u16 = 2;

/// The type of the extension of a request that has a solution in it.
const SOLUTION: u16 = 3;

/// The hardest puzzle that a peer solves, in bits: some seconds of a processor.
pub const MAX_PUZZLE_BITS: u8 = 24;

/// How many numbers are tried before it is looked whether the solution is wanted any more.
const STRIDE: u64 = 1 << 12;

/// What a coordinator wants to be solved before it does anything for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Puzzle {
    /// How many leading bits of the hash are zero in a solution.
    pub bits: u8,
    /// What the coordinator knows the puzzle by.
    pub challenge: [u8; 16],
}
fields!(Puzzle { bits, challenge });

/// The solution of a puzzle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solution {
    /// What the coordinator knows the puzzle by.
    pub challenge: [u8; 16],
    /// The number that makes the hash begin with zeros.
    pub nonce: u64,
}
fields!(Solution { challenge, nonce });

impl Puzzle {
    /// Returns the puzzle in a refusal, unless it is harder than any that a peer solves.
    #[must_use]
    pub fn of(refusal: &Extensions) -> Option<Self> {
        let puzzle: Self = read(refusal, PUZZLE)?;
        (puzzle.bits <= MAX_PUZZLE_BITS).then_some(puzzle)
    }

    /// Returns how a refusal says it.
    #[must_use]
    pub fn extension(&self) -> Extension {
        write(self, PUZZLE)
    }

    /// Solves it for a peer, unless the solution is not wanted any more before it is found. It
    /// takes 2^`bits` hashes on average.
    #[must_use]
    pub fn solve(&self, peer: &PeerId, is_wanted: impl Fn() -> bool) -> Option<Solution> {
        let solution = |nonce| Solution {
            challenge: self.challenge,
            nonce,
        };
        (0..u64::MAX)
            .take_while(|nonce| nonce % STRIDE != 0 || is_wanted())
            .map(solution)
            .find(|it| it.solves(peer, self.bits))
    }
}

impl Solution {
    /// Returns the solution in a request.
    #[must_use]
    pub fn of(request: &Extensions) -> Option<Self> {
        read(request, SOLUTION)
    }

    /// Returns how a request says it.
    #[must_use]
    pub fn extension(&self) -> Extension {
        write(self, SOLUTION)
    }

    /// Tells whether it solves a puzzle of so many bits with its challenge.
    #[must_use]
    pub fn solves(&self, peer: &PeerId, bits: u8) -> bool {
        let mut hash = Sha256::new();
        hash.update(b"p2pconnect puzzle v1");
        hash.update(peer.as_bytes());
        hash.update(self.challenge);
        hash.update(self.nonce.to_be_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let (first, _) = hash.split_first_chunk().expect("it is longer");
        u64::from_be_bytes(*first).leading_zeros() >= bits.into()
    }
}

/// Reads the first extension of a type. What is behind the known fields is ignored.
fn read<T: Wire>(extensions: &Extensions, kind: u16) -> Option<T> {
    T::read(&mut extensions.value(kind)?)
}

fn write(what: &impl Wire, kind: u16) -> Extension {
    let mut value = Vec::new();
    what.write(&mut value);
    Extension { kind, value }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId::from_public_key([1; 32]);

    fn puzzle(bits: u8) -> Puzzle {
        let challenge = [7; 16];
        Puzzle { bits, challenge }
    }

    #[test]
    fn a_solution_is_for_one_peer_and_one_puzzle() {
        let solution = puzzle(10).solve(&PEER, || true).unwrap();
        assert!(solution.solves(&PEER, 10));
        assert!(!solution.solves(&PeerId::from_public_key([2; 32]), 10));
        let challenge = [8; 16];
        assert!(
            !Solution {
                challenge,
                ..solution
            }
            .solves(&PEER, 10)
        );
        assert!(!solution.solves(&PEER, 64));
    }

    #[test]
    fn nobody_goes_on_who_is_not_waited_for_or_asked_too_much() {
        assert_eq!(puzzle(64).solve(&PEER, || false), None);
        let told = |bits| Puzzle::of(&Extensions(vec![puzzle(bits).extension()]));
        assert_eq!(told(MAX_PUZZLE_BITS), Some(puzzle(MAX_PUZZLE_BITS)));
        assert_eq!(told(MAX_PUZZLE_BITS + 1), None);
        assert_eq!(Puzzle::of(&Extensions::default()), None);
    }
}
