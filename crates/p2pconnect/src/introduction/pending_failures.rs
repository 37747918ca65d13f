//! Failures that are told of only if the dialler does not begin anew.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use p2pconnect_proto::PeerId;
use tokio::time::sleep;

use crate::{
    machine::task::AbortOnDrop,
    status::{Observer, Status},
    sync::lock,
};

/// How long a dialler may take to begin anew: the longest pause between two introductions of a
/// dial, and what the coordinator takes.
const ANEW: Duration = Duration::from_secs(3);

/// The most diallers that are waited for.
const MAX_WAITED_FOR: usize = 256;

/// Failures of introductions that a dialler has given up. A dial has several of them, and one that
/// connects has not failed.
#[derive(Debug, Default)]
pub(crate) struct PendingFailures(Arc<Mutex<BTreeMap<PeerId, Pending>>>);

/// The last failure of a dialler.
#[derive(Debug)]
struct Pending {
    failure: Status,
    _telling: AbortOnDrop,
}

impl PendingFailures {
    /// Tells an observer of a failure unless its dialler is introduced again soon.
    pub(crate) fn tell_later(&self, dialler: PeerId, observer: &Observer, failure: Status) {
        let mut pending = lock(&self.0);
        if pending.len() >= MAX_WAITED_FOR {
            return observer.tell(failure);
        }
        let (all, observer) = (Arc::downgrade(&self.0), observer.clone());
        let telling = AbortOnDrop::spawn(async move {
            sleep(ANEW).await;
            let due = all.upgrade().and_then(|all| lock(&all).remove(&dialler));
            if let Some(due) = due {
                observer.tell(due.failure);
            }
        });
        let failure = Pending {
            failure,
            _telling: telling,
        };
        pending.insert(dialler, failure);
    }

    /// Tells an observer of all failures at once: nobody will be introduced again.
    pub(crate) fn tell_all(&self, observer: &Observer) {
        let pending = std::mem::take(&mut *lock(&self.0));
        for it in pending.into_values() {
            observer.tell(it.failure);
        }
    }

    /// Takes note that a dialler is introduced: what has failed before is not the end of its dial.
    pub(crate) fn introduced(&self, dialler: PeerId) {
        lock(&self.0).remove(&dialler);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dial_that_begins_anew_has_not_failed() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = Arc::clone(&told);
        let observer = Observer::new(move |status| lock(&telling).push(status));
        let [returns, stays_away] = [1, 2].map(|it| PeerId::from_public_key([it; 32]));
        let failure = |peer| Status::PeerBusy { peer };
        let pending = PendingFailures::default();
        pending.tell_later(returns, &observer, failure(returns));
        pending.tell_later(stays_away, &observer, failure(stays_away));
        sleep(ANEW / 2).await;
        pending.introduced(returns);
        sleep(ANEW).await;
        let told: Vec<_> = lock(&told)
            .iter()
            .map(|status| matches!(status, Status::PeerBusy { peer } if *peer == stays_away))
            .collect();
        assert_eq!(told, [true]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_waited_for_than_there_is_room() {
        let count = Arc::new(Mutex::new(0));
        let counting = Arc::clone(&count);
        let observer = Observer::new(move |_| *lock(&counting) += 1);
        let pending = PendingFailures::default();
        for n in 0..=MAX_WAITED_FOR {
            let [high, low] = (n as u16).to_be_bytes();
            let mut key = [0; 32];
            (key[0], key[1]) = (high, low);
            let peer = PeerId::from_public_key(key);
            pending.tell_later(peer, &observer, Status::PeerBusy { peer });
        }
        assert_eq!(*lock(&count), 1);
        sleep(ANEW * 2).await;
        assert_eq!(*lock(&count), MAX_WAITED_FOR + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_all_are_told_of_at_once() {
        let count = Arc::new(Mutex::new(0));
        let counting = Arc::clone(&count);
        let observer = Observer::new(move |_| *lock(&counting) += 1);
        let peers = [1, 2].map(|it| PeerId::from_public_key([it; 32]));
        let pending = PendingFailures::default();
        for peer in peers {
            pending.tell_later(peer, &observer, Status::PeerBusy { peer });
        }
        pending.tell_all(&observer);
        assert_eq!(*lock(&count), 2);
        sleep(ANEW * 2).await;
        assert_eq!(*lock(&count), 2);
    }
}
