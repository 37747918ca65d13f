//! Ends a connection whose path has died with data under way.
//!
//! Linux by itself repeats what is not acknowledged for a quarter of an hour. `TCP_USER_TIMEOUT`
//! would bound that, but it also ends a connection whose peer is alive and has only stopped
//! reading, as a pager does. So the connection is checked: it is dead if something has been
//! repeated, or asked while the other side takes no more, and no acknowledgement at all has come
//! for as long as the silence that is allowed.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use p2pconnect_host::{TcpConnection as _, TcpInfo};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use crate::machine::tcp;

/// What errors call the other side.
pub(crate) const PEER: &str = "the peer";

/// How often a connection is checked within the silence that is allowed. A dead one is found that
/// much later at most, and later by TCP's first repetition.
const CHECKS: u32 = 20;

/// Checks a TCP connection now and then, while somebody waits for it, and tells when its path has
/// died.
///
/// A [`Connection`](crate::Connection) has this by itself. It is public for the TCP connections
/// that a program carries streams to, whose other end may vanish as well.
#[derive(Debug)]
pub struct Liveness {
    next_check: Pin<Box<Sleep>>,
    silence: Duration,
    /// Since when something has been repeated without an acknowledgement of anything.
    stuck_since: Option<Instant>,
}

impl Liveness {
    /// Begins to check a connection that ends when its other side has not been heard for as long as
    /// `silence`, though it should: it is asked on an idle connection (by TCP's keep-alive, which
    /// makes reading fail), and has to acknowledge what it is sent on another one (which
    /// [`poll_dead`](Self::poll_dead) watches).
    ///
    /// The system counts in seconds, and 3 s are the least that it can tell.
    ///
    /// # Errors
    ///
    /// What the system says to the keep-alive; none is expected on an open connection.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub fn watch(stream: &TcpStream, silence: Duration) -> io::Result<Self> {
        stream.keep_alive(tcp::keep_alive(silence))?;
        Ok(Self::new(silence))
    }

    /// Begins to check a connection on which nothing may be unacknowledged for longer than
    /// `silence`.
    pub(crate) fn new(silence: Duration) -> Self {
        Self {
            next_check: Box::pin(sleep_until(Instant::now())),
            silence,
            stuck_since: None,
        }
    }

    /// Is ready with an error once the other side of `stream`, which is always the same, has
    /// acknowledged nothing for too long of what it was sent; and wakes the task to check again.
    /// Nobody is found dead who only reads nothing. `whom` names the other side in the error.
    pub fn poll_dead(
        &mut self,
        stream: &TcpStream,
        whom: &dyn fmt::Display,
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        self.poll_dead_by(&mut || stream.info(), whom, cx)
    }

    /// Does the same for the connection to the peer.
    pub(crate) fn poll_dead_peer(
        &mut self,
        stream: &p2pconnect_host::TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        self.poll_dead_by(&mut || stream.info(), &PEER, cx)
    }

    fn poll_dead_by(
        &mut self,
        info: &mut dyn FnMut() -> TcpInfo,
        whom: &dyn fmt::Display,
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        ready!(self.poll_silent(&mut || info().unanswered_for, cx));
        let error = silent(whom, self.silence, "although it was sent something");
        Poll::Ready(error)
    }

    /// Says what an error of the system's means for this connection, whose other side is called
    /// `whom`. Others stay as they are.
    #[must_use]
    pub fn explained(error: io::Error, whom: &dyn fmt::Display, silence: Duration) -> io::Error {
        use io::ErrorKind as Kind;

        if error.raw_os_error().is_none() {
            return error;
        }
        let text = match error.kind() {
            Kind::TimedOut => {
                return silent(whom, silence, "although it was asked whether it is there");
            }
            // What routers have said when the silence was over (`icmp_err_convert` in Linux).
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::ConnectionRefused => format!(
                "nothing has come from {whom} for {} s, and the network says: {error}; a new connection is needed \
                 when it is there again",
                silence.as_secs()
            ),
            Kind::NetworkDown | Kind::AddrNotAvailable => format!(
                "this machine has lost the network or address of its connection to {whom}; a new connection is needed"
            ),
            Kind::ConnectionAborted => format!(
                "this machine's system has ended the connection to {whom}, as an administrator or a VPN has it do; \
                 a new connection is needed"
            ),
            Kind::PermissionDenied => {
                format!("a firewall on this machine or on the way forbids the connection to {whom}")
            }
            _ => return error,
        };
        io::Error::new(error.kind(), text)
    }

    /// Is ready once nothing has been acknowledged for too long, by what `unanswered` tells of the
    /// connection.
    fn poll_silent(
        &mut self,
        unanswered: &mut dyn FnMut() -> Option<Duration>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            ready!(self.next_check.as_mut().poll(cx));
            let now = Instant::now();
            if self.check(unanswered(), now) {
                return Poll::Ready(());
            }
            let next = now + self.silence / CHECKS;
            // Exactly at its end, if it comes before.
            let over = self.stuck_since.map(|since| since + self.silence);
            let next = over.map_or(next, |over| over.min(next));
            self.next_check.as_mut().reset(next);
        }
    }

    /// Takes in for how long the peer has acknowledged nothing of what was repeated, if anything
    /// was.
    fn check(&mut self, unanswered: Option<Duration>, now: Instant) -> bool {
        let Some(unanswered) = unanswered else {
            self.stuck_since = None;
            return false;
        };
        let since = *self.stuck_since.get_or_insert(now);
        let stuck = now.saturating_duration_since(since);
        // An idle connection has had no acknowledgement for long either, so only the time counts
        // since something was repeated.
        if unanswered < stuck {
            // What has come since was a sign of life, and what is repeated now began later.
            self.stuck_since = Some(now - unanswered);
            return false;
        }
        stuck >= self.silence
    }
}

fn silent(whom: &dyn fmt::Display, silence: Duration, although: &str) -> io::Error {
    let silence = silence.as_secs();
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "nothing has come from {whom} for {silence} s {although}; a new connection is needed when it is there \
             again"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SILENCE: Duration = Duration::from_secs(60);

    fn rig() -> (Liveness, Instant) {
        (Liveness::new(SILENCE), Instant::now())
    }

    /// Returns how long after the first repetition a connection is found dead that was idle for so
    /// long before.
    async fn found_after(idle: Duration) -> Duration {
        let (mut liveness, began) = rig();
        let repeated = began + idle;
        let mut unanswered = || (Instant::now() >= repeated).then(|| began.elapsed());
        poll_fn(|cx| liveness.poll_silent(&mut unanswered, cx)).await;
        repeated.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_path_is_found_hardly_later_than_the_silence_allows() {
        for tenths in 0..300 {
            let found = found_after(SECOND * tenths / 10).await;
            assert!(found >= SILENCE, "{tenths}: {found:?}");
            assert!(found <= SILENCE * 108 / 100, "{tenths}: {found:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_silence_begins_anew_with_the_last_sign_of_life() {
        let (mut liveness, began) = rig();
        let mut unanswered = || {
            let since_acknowledged = match began.elapsed() {
                early if early < SECOND * 30 => early,
                late => late - SECOND * 30,
            };
            Some(since_acknowledged)
        };
        poll_fn(|cx| liveness.poll_silent(&mut unanswered, cx)).await;
        let found = began.elapsed();
        assert!(found >= SECOND * 90 && found <= SECOND * 91, "{found:?}");
    }

    #[tokio::test]
    async fn silence_counts_from_when_something_was_repeated() {
        let (mut liveness, now) = rig();
        // Idle for an hour before.
        let idle = SECOND * 3600;
        assert!(!liveness.check(None, now));
        assert!(!liveness.check(Some(idle), now));
        assert!(!liveness.check(Some(idle + SECOND * 59), now + SECOND * 59));
        assert!(liveness.check(Some(idle + SECOND * 60), now + SECOND * 60));
    }

    #[tokio::test]
    async fn an_acknowledgement_is_a_sign_of_life() {
        let (mut liveness, now) = rig();
        assert!(!liveness.check(Some(SECOND), now));
        assert!(!liveness.check(Some(SECOND * 5), now + SECOND * 50));
        assert!(!liveness.check(Some(SECOND * 55), now + SECOND * 100));
        assert!(!liveness.check(None, now + SECOND * 150));
        assert!(!liveness.check(Some(SECOND), now + SECOND * 200));
    }

    #[test]
    fn every_error_of_a_connection_says_what_has_happened() {
        for number in [
            libc::ETIMEDOUT,
            libc::EHOSTUNREACH,
            libc::ENETUNREACH,
            libc::ECONNREFUSED,
            libc::ENETDOWN,
            libc::EADDRNOTAVAIL,
            libc::ECONNABORTED,
            libc::EACCES,
        ] {
            let error = io::Error::from_raw_os_error(number);
            let kind = error.kind();
            let explained = Liveness::explained(error, &"the service", SILENCE);
            assert_eq!(explained.kind(), kind);
            let text = explained.to_string();
            assert!(text.contains("the service"), "{text}");
        }
    }
}
