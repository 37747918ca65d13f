//! What this side tells of itself, to the coordinator and by way of it to a peer.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use p2pconnect_proto::{Candidate, NatReport};

use crate::machine::interfaces::Interfaces;

/// How old a look at a sequential allocator is at most that a dial has just waited for. Somebody
/// else's connection in this time costs an attempt, and another one follows.
const JUST_BEFORE: Duration = Duration::from_millis(100);

/// What an endpoint tells of itself, and acts by: what a peer does rests on the same.
#[derive(Debug, Clone)]
pub(crate) struct Advertisement {
    /// When.
    pub(crate) at: Instant,
    /// This machine's interfaces then.
    pub(crate) interfaces: Interfaces,
    /// Whether a STUN server had told a mapping by then.
    pub(crate) is_mapped: bool,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) nat: NatReport,
    /// From where the first connection out of that row is expected.
    pub(crate) predicted: Option<SocketAddr>,
    /// When the newest connection was made that this rests on.
    pub(crate) looked: Option<Instant>,
    /// The first of a row of local ports for attempts that need one each, if the NAT asks for
    /// that.
    pub(crate) fresh: Option<SocketAddr>,
}

impl Advertisement {
    /// Tells whether this side had looked just before where the next connection would come from.
    pub(crate) fn is_fresh(&self) -> bool {
        let age = self
            .looked
            .map(|looked| self.at.saturating_duration_since(looked));
        age.is_some_and(|age| age < JUST_BEFORE)
    }
}
