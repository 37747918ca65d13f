//! How many connections each of the peers that dial this endpoint may have: shares, and not first
//! come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use p2pconnect_proto::PeerId;

use crate::sync::lock;

/// The slots for connections, and who holds them.
///
/// A peer gets another slot while it holds no more than are free. So one peer alone gets half of
/// all, the next one half of the rest, and a peer that holds none gets one as long as there is any.
#[derive(Debug)]
pub(crate) struct Shares {
    limit: usize,
    /// Whether several peers may come; a single one may have all.
    is_shared: bool,
    held: Mutex<BTreeMap<PeerId, usize>>,
}

/// One slot, until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    peer: PeerId,
}

impl Shares {
    pub(crate) const fn new(limit: usize, is_shared: bool) -> Self {
        Self {
            limit,
            is_shared,
            held: Mutex::new(BTreeMap::new()),
        }
    }

    /// Takes a slot for a peer, if there is one for it.
    pub(crate) fn take(self: &Arc<Self>, peer: PeerId) -> Option<Share> {
        let mut held = lock(&self.held);
        let free = self.limit.saturating_sub(held.values().sum());
        let own = held.get(&peer).copied().unwrap_or_default();
        if free == 0 || self.is_shared && own > free {
            return None;
        }
        held.insert(peer, own + 1);
        let shares = Arc::clone(self);
        Some(Share { shares, peer })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = lock(&self.shares.held);
        if let Some(own) = held.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn peer(n: u8) -> PeerId {
        PeerId::from_public_key([n; 32])
    }

    fn greedy(shares: &Arc<Shares>, n: u8) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(peer(n))).collect()
    }

    #[test]
    fn greedy_peers_leave_slots_for_others() {
        let shares = Arc::new(Shares::new(256, true));
        let all: Vec<_> = (0..8).map(|n| greedy(&shares, n)).collect();
        let counts: Vec<_> = all.iter().map(Vec::len).collect();
        assert_eq!(counts, [129, 64, 32, 16, 8, 4, 2, 1]);
        assert!(shares.take(peer(9)).is_none(), "there are 256");
    }

    #[test]
    fn slots_come_back() {
        let shares = Arc::new(Shares::new(1, true));
        let held = greedy(&shares, 1);
        assert_eq!(held.len(), 1);
        assert!(shares.take(peer(2)).is_none());
        drop(held);
        assert!(shares.take(peer(2)).is_some());
    }

    #[test]
    fn a_peer_that_alone_may_come_gets_all() {
        let shares = Arc::new(Shares::new(256, false));
        assert_eq!(greedy(&shares, 1).len(), 256);
    }
}
