//! Keeps a dial from becoming two streams.
//!
//! A dialler uses connections before this side has answered on them. When one is lost, it cannot
//! tell whether this side has taken it and only the answer is lost: the NAT before the dialler may
//! have forgotten the connection, and what comes back is a reset. So on the next connection it
//! names the introductions that those before were of, and this side knows.

use std::{collections::VecDeque, sync::Mutex};

use p2pconnect_proto::{Opening, PeerId};

use crate::{session::Decision, sync::lock};

/// Introductions that are remembered. A dial names those of its last seconds, and 32 at a time are
/// under way.
const MAX_REMEMBERED: usize = 1024;

/// The introductions in which this side was called, and whether each has brought a stream.
#[derive(Debug, Default)]
pub(crate) struct CalledSessions(Mutex<VecDeque<CalledSession>>);

#[derive(Debug)]
struct CalledSession {
    dialler: PeerId,
    /// What the dialler opens its connections with.
    opening: Opening,
    decision: Decision,
}

impl CalledSessions {
    /// Notes that an introduction is being answered. Returns what decides whether a connection is
    /// used.
    pub(crate) fn begin(&self, dialler: PeerId, opening: Opening) -> Decision {
        let decision = Decision::default();
        let mut sessions = lock(&self.0);
        if sessions.len() == MAX_REMEMBERED {
            sessions.pop_front();
        }
        sessions.push_back(CalledSession {
            dialler,
            opening,
            decision: decision.clone(),
        });
        decision
    }

    /// Gives up introductions of a dial that has used connections of each, for another one. Returns
    /// whether none of them has brought a stream, or ever will.
    ///
    /// What is not remembered may have: this side had its part in each, perhaps as a process that
    /// has ended since.
    pub(crate) fn give_up(&self, dialler: PeerId, openings: &[Opening]) -> bool {
        let sessions = lock(&self.0);
        openings.iter().all(|opening| {
            let is_it = |it: &&CalledSession| it.dialler == dialler && it.opening == *opening;
            let session = sessions.iter().rev().find(is_it);
            session.is_some_and(|it| it.decision.gives_up())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALLER: PeerId = PeerId::from_public_key([1; 32]);
    const OTHER: PeerId = PeerId::from_public_key([2; 32]);

    fn opening(n: usize) -> Opening {
        Opening::from_bytes((n as u128).to_be_bytes())
    }

    #[test]
    fn a_dial_becomes_one_stream_at_most() {
        let sessions = CalledSessions::default();
        let [lost, taken, last] = [0, 1, 2].map(|n| sessions.begin(DIALLER, opening(n)));
        assert!(sessions.give_up(DIALLER, &[]));
        assert!(sessions.give_up(DIALLER, &[opening(0)]));
        assert!(!lost.uses(), "what still comes of it is not taken");
        assert!(taken.uses());
        assert!(!sessions.give_up(DIALLER, &[opening(0), opening(1)]));
        assert!(!sessions.give_up(OTHER, &[opening(2)]), "it is another's");
        assert!(last.uses());
    }

    #[test]
    fn what_is_not_remembered_may_have_been_taken() {
        let sessions = CalledSessions::default();
        for n in 0..=MAX_REMEMBERED {
            sessions.begin(DIALLER, opening(n));
        }
        assert!(!sessions.give_up(DIALLER, &[opening(0)]));
        assert!(sessions.give_up(DIALLER, &[opening(1)]));
        assert_eq!(lock(&sessions.0).len(), MAX_REMEMBERED);
    }
}
