//! How many connections a session begins, and whether it may.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use crate::{machine::four_tuple::FourTuple, nat::recent_tuples::RecentTuples, sync::Watched};

/// Lets others see how many connections a session begins, and have it begin no more. Clones share
/// it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SynGate(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How many connections over IPv4 have been begun that a NAT gives a port of their own, once
    /// any has been begun.
    begun: Watched<Option<u32>>,
    /// How many connections have been begun in all.
    attempts: AtomicU32,
    is_held: AtomicBool,
    recent_tuples: Arc<RecentTuples>,
}

impl SynGate {
    pub(crate) fn new(recent_tuples: Arc<RecentTuples>) -> Self {
        Self(Arc::new(Shared {
            recent_tuples,
            ..Shared::default()
        }))
    }

    /// Tells whether no other connection is to be begun.
    pub(crate) fn is_held(&self) -> bool {
        self.0.is_held.load(Ordering::Relaxed)
    }

    /// Notes that a connection is begun, and counts it if it is over IPv4.
    pub(super) fn begins(&self, four_tuple: FourTuple, is_over_ipv4: bool) {
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
        let new = u32::from(is_over_ipv4 && self.0.recent_tuples.is_new(four_tuple));
        let begun = &self.0.begun;
        begun.change(|begun| *begun = Some(begun.unwrap_or_default() + new));
    }

    /// Waits until a connection has been begun. Cancel safe.
    pub(crate) async fn begun(&self) {
        self.0.begun.wait_for(Option::is_some).await;
    }

    /// Returns how many ports a NAT has given to the connections over IPv4 that have been begun.
    pub(crate) fn count(&self) -> u32 {
        self.0.begun.borrow().unwrap_or_default()
    }

    /// Returns how many connections have been begun, whatever a NAT does about them.
    pub(crate) fn attempts(&self) -> u32 {
        self.0.attempts.load(Ordering::Relaxed)
    }

    /// Has no further connection begun. Those that are under way go on.
    pub(crate) fn hold(&self) {
        self.0.is_held.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_nat_gives_no_new_port_is_not_counted() {
        let recent_tuples = Arc::new(RecentTuples::default());
        let begin = |syn_gate: &SynGate, [from, to]: [u16; 2], is_over_ipv4| {
            let [local, remote] = [from, to].map(|port| ([192, 0, 2, 1], port).into());
            syn_gate.begins(FourTuple { local, remote }, is_over_ipv4);
        };
        let syn_gate = SynGate::new(Arc::clone(&recent_tuples));
        begin(&syn_gate, [1, 2], true);
        begin(&syn_gate, [1, 3], true);
        begin(&syn_gate, [1, 2], true);
        begin(&syn_gate, [1, 4], false);
        assert_eq!((syn_gate.count(), syn_gate.attempts()), (2, 4));
        // Another session of the same endpoint.
        let syn_gate = SynGate::new(Arc::clone(&recent_tuples));
        begin(&syn_gate, [1, 3], true);
        assert_eq!(syn_gate.count(), 0);
        begin(&syn_gate, [4, 3], true);
        assert_eq!(syn_gate.count(), 1);
        assert_eq!(recent_tuples.count(), 3);
        assert!(!syn_gate.is_held());
        syn_gate.hold();
        assert!(syn_gate.clone().is_held());
    }
}
