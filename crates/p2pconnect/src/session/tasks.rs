//! The tasks of a session's checks.

use p2pconnect_punch::{ConnectFailure, VerifyFailure};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::session::{inbound::Dialled, verify::Verified};

pub(crate) type Connected = Result<Dialled, ConnectFailure>;

/// What has come of the task of check `K`.
#[derive(Debug)]
pub(crate) enum Done<K> {
    Connect(K, Connected),
    Verify(K, Result<Verified, VerifyFailure>),
}

/// The connections that are being opened, and those that are being verified, of checks `K`.
#[derive(Debug)]
pub(crate) struct Tasks<K> {
    connecting: JoinSet<(K, Connected)>,
    verifying: JoinSet<(K, Result<Verified, VerifyFailure>)>,
}

impl<K> Default for Tasks<K> {
    fn default() -> Self {
        Self {
            connecting: JoinSet::new(),
            verifying: JoinSet::new(),
        }
    }
}

impl<K: Send + 'static> Tasks<K> {
    pub(crate) fn connect(
        &mut self,
        check: K,
        connecting: impl Future<Output = Connected> + Send + 'static,
    ) -> AbortHandle {
        let task = async move { (check, connecting.await) };
        self.connecting.spawn(task)
    }

    pub(crate) fn verify(
        &mut self,
        check: K,
        verifying: impl Future<Output = Result<Verified, VerifyFailure>> + Send + 'static,
    ) -> AbortHandle {
        let task = async move { (check, verifying.await) };
        self.verifying.spawn(task)
    }

    /// Gives the connections away that are being opened.
    pub(crate) fn take_connecting(&mut self) -> JoinSet<(K, Connected)> {
        std::mem::take(&mut self.connecting)
    }

    /// Waits until a task has ended, forever if there are none. Where ports are guessed, hundreds
    /// of connections may open at once: the one that has been verified does not wait until all of
    /// them have been looked at.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Done<K>, JoinError> {
        tokio::select! {
            biased;
            Some(joined) = self.verifying.join_next() => {
                joined.map(|(check, result)| Done::Verify(check, result))
            }
            Some(joined) = self.connecting.join_next() => {
                joined.map(|(check, result)| Done::Connect(check, result))
            }
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_verified_does_not_wait_for_what_has_opened() {
        let mut tasks = Tasks::default();
        let refused = || async { Err(ConnectFailure::Refused) };
        let mut begun: Vec<_> = (0..100).map(|n| tasks.connect(n, refused())).collect();
        let verified = async { Err(VerifyFailure::TimedOut) };
        begun.push(tasks.verify(100, verified));
        // All have ended before anybody looks.
        while !begun.iter().all(AbortHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        let first = tasks.next().await.unwrap();
        assert!(matches!(first, Done::Verify(..)), "{first:?}");
        for _ in 0..100 {
            let next = tasks.next().await.unwrap();
            assert!(matches!(next, Done::Connect(..)), "{next:?}");
        }
    }
}
