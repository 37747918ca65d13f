//! Ends a connection whose path has died with data under way.
//!
//! Linux by itself repeats what is not acknowledged for a quarter of an hour. `TCP_USER_TIMEOUT` would
//! bound that, but it also ends a connection whose peer is alive and has only stopped reading, as a pager
//! does. So the connection is looked at: it is dead if something has been repeated, and no
//! acknowledgement at all has come for as long as the silence that is allowed.

use std::{
    io,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::tcp;

/// How often a connection is looked at within the silence that is allowed. A dead one is found that
/// much later at most.
const LOOKS: u32 = 6;

/// Looks at a TCP connection now and then, while somebody waits for it, and tells when its path has died.
///
/// A [`Connection`](crate::Connection) has this by itself. It is public for the TCP connections that a program
/// carries streams to, whose other end may vanish as well.
#[derive(Debug)]
pub struct Liveness {
    looks: Interval,
    silence: Duration,
    /// Since when something has been repeated without an acknowledgement of anything.
    stuck_since: Option<Instant>,
}

impl Liveness {
    /// Begins to look at a connection that ends when its other side has not been heard for as long as `silence`,
    /// though it should: it is asked on an idle connection (by TCP's keep-alive, which makes reading fail), and
    /// has to acknowledge what it is sent on another one (which [`poll_dead`](Self::poll_dead) watches).
    ///
    /// The system counts in seconds, and 3 s are the least that it can tell.
    ///
    /// # Errors
    ///
    /// What the system says to the keep-alive; none is expected on an open connection.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled, and if `silence` is zero.
    pub fn watch(stream: &TcpStream, silence: Duration) -> io::Result<Self> {
        tcp::keep_alive(stream, silence)?;
        Ok(Self::new(silence))
    }

    /// Begins to look at a connection on which nothing may be unacknowledged for longer than `silence`.
    pub(crate) fn new(silence: Duration) -> Self {
        let mut looks = interval(silence / LOOKS);
        // Looking late costs nothing; looking twice in a row shows nothing new.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            looks,
            silence,
            stuck_since: None,
        }
    }

    /// Is ready once the other side of `stream`, which is always the same, has acknowledged nothing for too long of
    /// what it was sent; and wakes the task to look again. Nobody is found dead who only reads nothing.
    pub fn poll_dead(&mut self, stream: &TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.looks.poll_tick(cx));
            if self.look(tcp::unanswered_for(stream), Instant::now()) {
                return Poll::Ready(());
            }
        }
    }

    /// Is ready with an error once the path to a peer has died, as [`poll_dead`](Self::poll_dead).
    pub(crate) fn poll_error(
        &mut self,
        stream: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        ready!(self.poll_dead(stream, cx));
        Poll::Ready(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "nothing has come from the peer for {} s although it was sent something",
                self.silence.as_secs()
            ),
        ))
    }

    /// Takes in for how long the peer has acknowledged nothing of what was repeated, if anything was.
    fn look(&mut self, unanswered: Option<Duration>, now: Instant) -> bool {
        let Some(unanswered) = unanswered else {
            self.stuck_since = None;
            return false;
        };
        let since = *self.stuck_since.get_or_insert(now);
        let stuck = now.saturating_duration_since(since);
        // An idle connection has had no acknowledgement for long either, so only the time counts since
        // something was repeated.
        if unanswered < stuck {
            self.stuck_since = Some(now);
            return false;
        }
        stuck >= self.silence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rig() -> (Liveness, Instant) {
        (Liveness::new(SECOND * 60), Instant::now())
    }

    #[tokio::test]
    async fn silence_counts_from_when_something_was_repeated() {
        let (mut liveness, now) = rig();
        // Idle for an hour before.
        let idle = SECOND * 3600;
        assert!(!liveness.look(None, now));
        assert!(!liveness.look(Some(idle), now));
        assert!(!liveness.look(Some(idle + SECOND * 59), now + SECOND * 59));
        assert!(liveness.look(Some(idle + SECOND * 60), now + SECOND * 60));
    }

    #[tokio::test]
    async fn an_acknowledgement_is_a_sign_of_life() {
        let (mut liveness, now) = rig();
        assert!(!liveness.look(Some(SECOND), now));
        assert!(!liveness.look(Some(SECOND * 5), now + SECOND * 50));
        assert!(!liveness.look(Some(SECOND * 55), now + SECOND * 100));
        assert!(!liveness.look(None, now + SECOND * 150));
        assert!(!liveness.look(Some(SECOND), now + SECOND * 200));
    }
}
