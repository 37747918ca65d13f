//! What this side advertises to the coordinator, and by way of it to a peer.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use p2pconnect_proto::{Candidate, NatReport};

use crate::machine::interfaces::Interfaces;

/// How old a sequence probe is at most that a dial has just waited for. Somebody else's connection
/// in this time costs an attempt, and another one follows.
const JUST_BEFORE: Duration = Duration::from_millis(100);

/// What an endpoint tells of itself, and acts by: what a peer does rests on the same.
#[derive(Debug, Clone)]
pub(crate) struct Advertisement {
    /// When this was advertised.
    pub(crate) at: Instant,
    /// The interfaces that this machine had then.
    pub(crate) interfaces: Interfaces,
    /// Whether a STUN server had told a mapping by then.
    pub(crate) is_mapped: bool,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) nat: NatReport,
    /// The address that the first connection out of `unused` is predicted to come from.
    pub(crate) predicted: Option<SocketAddr>,
    /// When the sequence probe was made that the prediction rests on.
    pub(crate) probed_at: Option<Instant>,
    /// The first of a block of unused local ports, for attempts that need a port each, if the NAT
    /// asks for that.
    pub(crate) unused: Option<SocketAddr>,
}

impl Advertisement {
    /// Returns whether this side had probed the sequence just before it advertised.
    pub(crate) fn was_probed_just_before(&self) -> bool {
        let age = self
            .probed_at
            .map(|probed| self.at.saturating_duration_since(probed));
        age.is_some_and(|age| age < JUST_BEFORE)
    }
}
