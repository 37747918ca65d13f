//! Carries what is to be sent and what comes, until a connection has ended.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    end_of,
    shared::{Shared, State},
};
use crate::end::End;

/// How long the end may take: the last words are sent, and the other side closes in its turn. A
/// connection that is closed before has them lost when something is still coming.
const CLOSING: Duration = Duration::from_secs(2);

/// What is read at once, at most.
const PIECE: usize = 4 * 1024;

/// Drives a connection until nothing comes or leaves any more.
pub(super) async fn run(shared: Arc<Shared>, idle_timeout: Duration) {
    let mut driver = Driver::new(idle_timeout);
    let mut timer = pin!(sleep_until(driver.deadline()));
    poll_fn(|cx| {
        let mut state = shared.lock();
        let has_changed = driver.turn(&mut state, cx);
        let is_over = driver.is_over(&state) || driver.is_late(&mut state, timer.as_mut(), cx);
        if is_over {
            state.carrier = None;
        } else if !state
            .driver
            .as_ref()
            .is_some_and(|it| it.will_wake(cx.waker()))
        {
            state.driver = Some(cx.waker().clone());
        }
        drop(state);
        if has_changed || is_over {
            shared.tell();
        }
        if is_over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// What the driver knows of the way.
struct Driver {
    idle_timeout: Duration,
    /// When something came last, or the connection began.
    heard_at: Instant,
    /// Since when nothing of what is to be sent is taken.
    stuck_since: Option<Instant>,
    /// Whether something has been written that may not have left.
    is_unflushed: bool,
    /// Whether this side has ended its direction, and the other side its own.
    has_shut_down: bool,
    has_ended: bool,
    /// When the connection was found to have ended.
    ended_at: Option<Instant>,
}

impl Driver {
    fn new(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout,
            heard_at: Instant::now(),
            stuck_since: None,
            is_unflushed: false,
            has_shut_down: false,
            has_ended: false,
            ended_at: None,
        }
    }

    /// Returns when it has waited for long enough.
    fn deadline(&self) -> Instant {
        if let Some(ended_at) = self.ended_at {
            return ended_at + CLOSING;
        }
        let since = self
            .stuck_since
            .map_or(self.heard_at, |it| it.min(self.heard_at));
        since
            .checked_add(self.idle_timeout)
            .unwrap_or_else(|| since + Duration::from_secs(1 << 30))
    }

    /// Reads and writes what can be, and tells whether anything has been.
    fn turn(&mut self, state: &mut State, cx: &mut Context<'_>) -> bool {
        let mut has_changed = false;
        loop {
            let has_read = self.read(state, cx);
            let has_written = self.write(state, cx);
            if !has_read && !has_written {
                break;
            }
            has_changed = true;
        }
        if self.ended_at.is_none() && state.mux.end().is_some() {
            self.ended_at = Some(Instant::now());
            has_changed = true;
        }
        has_changed
    }

    fn read(&mut self, state: &mut State, cx: &mut Context<'_>) -> bool {
        let Some(carrier) = &mut state.carrier else {
            return false;
        };
        if self.has_ended || !state.mux.takes_more() {
            return false;
        }
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece);
        match Pin::new(carrier).poll_read(cx, &mut piece) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) if piece.filled().is_empty() => {
                // Without its last words.
                self.fail(state, End::Reset);
                true
            }
            Poll::Ready(Ok(())) => {
                self.heard_at = Instant::now();
                state.receive(piece.filled(), self.heard_at);
                true
            }
            Poll::Ready(Err(error)) => {
                self.fail(state, end_of(&error));
                true
            }
        }
    }

    /// Writes what is to be sent and, behind the last words, ends the direction.
    fn write(&mut self, state: &mut State, cx: &mut Context<'_>) -> bool {
        let State { mux, carrier, .. } = state;
        let Some(carrier) = carrier else {
            return false;
        };
        let mut carrier = Pin::new(carrier);
        let unsent = mux.unsent();
        let done: Poll<io::Result<usize>> = if self.has_shut_down {
            return false;
        } else if !unsent.is_empty() {
            carrier.as_mut().poll_write(cx, unsent)
        } else if self.is_unflushed {
            carrier.as_mut().poll_flush(cx).map_ok(|()| 0)
        } else if mux.end().is_some() {
            self.has_shut_down = carrier.as_mut().poll_shutdown(cx).is_ready();
            return self.has_shut_down;
        } else {
            return false;
        };
        match done {
            Poll::Pending => {
                self.stuck_since.get_or_insert_with(Instant::now);
                false
            }
            Poll::Ready(Ok(count)) => {
                self.stuck_since = None;
                self.is_unflushed = count > 0;
                mux.sent(count);
                true
            }
            Poll::Ready(Err(error)) => {
                self.fail(state, end_of(&error));
                true
            }
        }
    }

    /// Notes that nothing comes any more.
    fn fail(&mut self, state: &mut State, end: End) {
        state.mux.lose(end);
        self.has_ended = true;
    }

    /// Tells whether both directions have ended.
    const fn is_over(&self, state: &State) -> bool {
        state.mux.end().is_some() && self.has_ended && self.has_shut_down
    }

    /// Tells whether the end has taken too long. A connection that has not ended has if nothing has
    /// come, or been taken, for too long.
    fn is_late(
        &mut self,
        state: &mut State,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> bool {
        loop {
            let deadline = self.deadline();
            if timer.deadline() != deadline && (timer.is_elapsed() || deadline < timer.deadline()) {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            if Instant::now() >= self.deadline() {
                state.mux.lose(End::Silence);
                return true;
            }
        }
    }
}
