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
use tokio::sync::Notify;

use super::{
    Carrier,
    mux::{Mux, Seen, Side},
};
use crate::end::End;

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

    /// Returns how long a round trip takes; zero if that is unknown, or does not matter any more.
    pub(super) fn round_trip(&self) -> Duration {
        let known = self.carrier.as_ref().and_then(|it| it.round_trip());
        known.unwrap_or_default()
    }
}

impl Shared {
    pub(super) fn new(
        carrier: Box<dyn Carrier>,
        side: Side,
        remote: SocketAddr,
        peer: Option<PeerId>,
    ) -> Self {
        let state = State {
            mux: Mux::new(side),
            carrier: Some(carrier),
            heard: 0,
            driver: None,
        };
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
