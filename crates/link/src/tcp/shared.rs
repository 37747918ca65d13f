//! What all handles of a connection and its driver share.

use std::{
    fmt,
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use p2pconnect_proto::{PeerId, close};
use tokio::{sync::Notify, time::Instant};

use super::{
    Carrier,
    mux::{Mux, Seen, Side},
};
use crate::end::End;

/// By how much a round trip of the whole way is measured too long at most, besides a quarter: the
/// other side computes and waits for its turn.
const INEXACT: Duration = Duration::from_millis(5);

/// A connection, and who waits for something of it.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes whoever waits for a change.
    changed: Notify,
    remote: SocketAddr,
    peer: Option<PeerId>,
}

/// What changes with everything that comes or is done.
pub(super) struct State {
    pub(super) mux: Mux,
    /// What carries it, until the connection is over.
    pub(super) carrier: Option<Box<dyn Carrier>>,
    /// How many bytes have come.
    pub(super) heard: u64,
    /// Wakes the driver.
    pub(super) driver: Option<Waker>,
    side: Side,
    /// The shortest time in which the other side itself has answered.
    whole: Duration,
    /// Since when it is asked.
    asked_at: Option<Instant>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = &mut f.debug_struct("State");
        state.field("heard", &self.heard).finish_non_exhaustive()
    }
}

impl State {
    /// Tells whether nothing comes or leaves any more.
    pub(super) fn is_over(&self) -> bool {
        self.carrier.is_none()
    }

    /// Returns how long a round trip takes.
    ///
    /// The carrier knows the way to where it ends, which may be a proxy.
    pub(super) fn round_trip(&self) -> Duration {
        let near = self.carrier.as_ref().and_then(|it| it.round_trip());
        let is_whole = |near: &Duration| self.whole <= *near + *near / 4 + INEXACT;
        near.filter(is_whole).unwrap_or(self.whole)
    }

    /// Tells whether the carrier does not know the whole way.
    fn ends_before(&self) -> bool {
        let near = self.carrier.as_ref().and_then(|it| it.round_trip());
        near != Some(self.round_trip())
    }

    /// Asks the other side for a sign of life, and measures how long that takes.
    pub(super) fn ask(&mut self, now: Instant) {
        self.mux.ask();
        self.asked_at.get_or_insert(now);
    }

    /// Takes in what has come.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        let before = self.mux.pings();
        self.heard += bytes.len() as u64;
        self.mux.receive(bytes);
        let after = self.mux.pings();
        if after.answers > before.answers
            && let Some(asked_at) = self.asked_at.take()
        {
            self.whole = self.whole.min(now - asked_at);
        }
        // Both sides would never end to ask.
        let is_coordinator = self.side == Side::Coordinator;
        if is_coordinator && after.questions > before.questions && self.ends_before() {
            self.ask(now);
        }
    }
}

impl Shared {
    pub(super) fn new(
        carrier: Box<dyn Carrier>,
        side: Side,
        remote: SocketAddr,
        peer: Option<PeerId>,
        handshake: Duration,
    ) -> Self {
        let mut state = State {
            mux: Mux::new(side),
            carrier: Some(carrier),
            heard: 0,
            driver: None,
            side,
            whole: handshake,
            asked_at: None,
        };
        if side == Side::Coordinator && state.ends_before() {
            state.ask(Instant::now());
        }
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            remote,
            peer,
        }
    }

    pub(super) const fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(super) const fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A connection whose state a panic has left half-changed ends by its timeouts.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state.
    pub(super) fn with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the state, and wakes those for whom there is something to do then.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.mux.seen();
        let changed = change(&mut state);
        let after = state.mux.seen();
        let is_same = Seen {
            streams: before.streams,
            ..after
        } == before;
        let driver = if is_same { None } else { state.driver.take() };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        // A stream that is over makes room for another one.
        if after.has_ended != before.has_ended || after.streams < before.streams {
            self.tell();
        }
        changed
    }

    /// Wakes all who wait for a change.
    pub(super) fn tell(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until there is something to be had from the state. Cancel safe.
    pub(super) async fn wait<T>(&self, mut take: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // It hears of what changes from now on.
            let changed = self.changed.notified();
            if let Some(taken) = self.change(&mut take) {
                return taken;
            }
            changed.await;
        }
    }

    /// Waits until there is something to be had, or the connection has ended. What came before its
    /// end is had before it. Cancel safe.
    pub(super) async fn or_end<T>(
        &self,
        mut take: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, End> {
        self.wait(|state| match take(state) {
            Some(taken) => Some(Ok(taken)),
            None => state.mux.end().cloned().map(Err),
        })
        .await
    }
}

/// A connection that is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Handle(pub(super) Arc<Shared>);

impl Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.change(|state| state.mux.close(close::DONE.into(), ""));
    }
}
