//! Remembers where the server has seen whom, for a coordinator in the same process.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    net::SocketAddr,
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// How many sightings are remembered: more than a public server sees in the time that they are
/// good for.
const MAX_SIGHTINGS: usize = 4096;

/// For how long a sighting is remembered. It is asked for within the second.
const AGE: Duration = Duration::from_secs(10);

/// What STUN servers of this process have seen of those who showed a commitment.
///
/// A coordinator in the same process can thus tell a peer's address to others before the peer
/// itself has heard of it. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Witness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    sightings: Mutex<Sightings>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Sightings {
    by_commitment: BTreeMap<[u8; 32], SocketAddr>,
    oldest_first: VecDeque<(Instant, [u8; 32])>,
}

/// Who waits for which commitment. Anybody can show commitments, as many a second as they like:
/// one that nobody waits for wakes nobody.
#[derive(Debug, Default)]
struct Waiting {
    by_commitment: BTreeMap<[u8; 32], Vec<Weak<Notify>>>,
}

/// A look-up that waits. Dropping it ends that.
#[derive(Debug)]
struct Waiter<'a> {
    shared: &'a Shared,
    commitments: &'a [[u8; 32]],
    news: Arc<Notify>,
}

impl Witness {
    pub(crate) fn saw(&self, commitment: [u8; 32], mapped: SocketAddr) {
        self.with(|sightings| sightings.note(commitment, mapped, Instant::now()));
        self.0.wake(&commitment);
    }

    /// Returns where those who show these commitments were seen, in this order, or are seen within
    /// `patience`, and within `lag` once one of them has been found.
    ///
    /// Cancel safe.
    pub async fn look_up(
        &self,
        commitments: &[[u8; 32]],
        patience: Duration,
        lag: Duration,
    ) -> Vec<Option<SocketAddr>> {
        let waiter = Waiter::new(&self.0, commitments);
        let mut until = Instant::now() + patience;
        loop {
            let found = self.with(|it| it.find(commitments));
            if found.iter().all(Option::is_some) {
                return found;
            }
            if found.iter().any(Option::is_some) {
                // The first one decides, as this can only become earlier.
                until = until.min(Instant::now() + lag);
            }
            if timeout_at(until, waiter.news.notified()).await.is_err() {
                return found;
            }
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Sightings) -> T) -> T {
        let sightings = self.0.sightings.lock();
        look(&mut sightings.unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    fn wake(&self, commitment: &[u8; 32]) {
        let waiting = self.waiting();
        let waiters = waiting.by_commitment.get(commitment);
        for waiter in waiters.into_iter().flatten().filter_map(Weak::upgrade) {
            // One that looks just now finds this kept for it.
            waiter.notify_one();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Waiter<'a> {
    fn new(shared: &'a Shared, commitments: &'a [[u8; 32]]) -> Self {
        let news = Arc::new(Notify::new());
        let mut waiting = shared.waiting();
        for commitment in commitments {
            let waiters = waiting.by_commitment.entry(*commitment).or_default();
            waiters.push(Arc::downgrade(&news));
        }
        drop(waiting);
        Self {
            shared,
            commitments,
            news,
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting();
        for commitment in self.commitments {
            if let Entry::Occupied(mut waiters) = waiting.by_commitment.entry(*commitment) {
                waiters
                    .get_mut()
                    .retain(|it| !ptr::eq(it.as_ptr(), Arc::as_ptr(&self.news)));
                if waiters.get().is_empty() {
                    waiters.remove();
                }
            }
        }
    }
}

impl Sightings {
    fn find(&self, commitments: &[[u8; 32]]) -> Vec<Option<SocketAddr>> {
        let seen = commitments.iter().map(|it| self.by_commitment.get(it));
        seen.map(Option::<&_>::copied).collect()
    }

    fn note(&mut self, commitment: [u8; 32], mapped: SocketAddr, now: Instant) {
        while let Some(&(at, oldest)) = self.oldest_first.front() {
            let is_old = now.saturating_duration_since(at) >= AGE;
            if !is_old && self.oldest_first.len() < MAX_SIGHTINGS {
                break;
            }
            self.oldest_first.pop_front();
            self.by_commitment.remove(&oldest);
        }
        if self.by_commitment.insert(commitment, mapped).is_none() {
            self.oldest_first.push_back((now, commitment));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Wake, Waker},
    };

    use super::*;

    /// Counts how often a task is woken.
    #[derive(Debug, Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    const PATIENCE: Duration = Duration::from_secs(30);
    const LAG: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_or_is_seen_soon_is_told() {
        let witness = Witness::default();
        witness.saw([1; 32], address(1));
        let (found, ()) =
            tokio::join!(witness.look_up(&[[2; 32], [1; 32]], PATIENCE, LAG), async {
                tokio::task::yield_now().await;
                witness.saw([3; 32], address(3));
                witness.saw([2; 32], address(2));
            });
        assert_eq!(found, [Some(address(2)), Some(address(1))]);
        let began = Instant::now();
        assert_eq!(witness.look_up(&[[4; 32]], PATIENCE, LAG).await, [None]);
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
        assert_eq!(witness.look_up(&[], PATIENCE, LAG).await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn once_one_is_found_the_others_are_not_waited_for_long() {
        let witness = Witness::default();
        let began = Instant::now();
        let commitments = [[1; 32], [2; 32], [3; 32]];
        let (found, ()) = tokio::join!(witness.look_up(&commitments, PATIENCE, LAG), async {
            tokio::time::advance(LAG * 5).await;
            witness.saw([2; 32], address(2));
            tokio::task::yield_now().await;
            tokio::time::advance(LAG / 2).await;
            witness.saw([3; 32], address(3));
        });
        assert_eq!(found, [None, Some(address(2)), Some(address(3))]);
        assert_eq!(began.elapsed().as_secs(), (LAG * 6).as_secs());
    }

    /// A sighting costs nothing to cause, and there may be many look-ups.
    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_wakes_nobody() {
        let witness = Witness::default();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let woken = || wakes.0.load(Ordering::Relaxed);
        let commitments = [[1; 32], [2; 32]];
        let mut looking = Box::pin(witness.look_up(&commitments, PATIENCE, LAG));
        assert!(looking.as_mut().poll(&mut context).is_pending());
        for n in 10..=u8::MAX {
            witness.saw([n; 32], address(n.into()));
        }
        assert_eq!(woken(), 0);
        witness.saw([2; 32], address(2));
        assert_eq!(woken(), 1);
        drop(looking);
        assert!(witness.0.waiting().by_commitment.is_empty());
    }

    #[test]
    fn old_sightings_and_too_many_are_forgotten() {
        let mut sightings = Sightings::default();
        let now = Instant::now();
        for n in 0..=u16::MAX {
            let mut commitment = [0; 32];
            commitment[..2].copy_from_slice(&n.to_be_bytes());
            sightings.note(commitment, address(n), now);
        }
        assert_eq!(sightings.by_commitment.len(), MAX_SIGHTINGS);
        sightings.note([9; 32], address(9), now + AGE);
        assert_eq!(sightings.by_commitment.len(), 1);
        assert_eq!(sightings.oldest_first.len(), 1);
    }
}
