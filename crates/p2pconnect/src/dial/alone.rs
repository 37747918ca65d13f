//! Keeps dials of one machine out of each other's way where both NATs give each destination another
//! port.
//!
//! Each side has to know from which ports the other side connects, and each connection of a dial
//! beside it takes one of those. A few dials find a gap by themselves; of a dozen, all with the
//! same key as those of an editor, none does. So a dial that has failed, or begun anew, under such
//! circumstances goes on when no other one of its key does.
//!
//! The dialler that goes on holds a [name](Host::hold_name) on its host.
//!
//! The callee does its part, see [`one_each`](crate::introduction::one_each).

use std::{fmt::Write as _, time::Instant};

use p2pconnect_host::{HeldName, Host};
use p2pconnect_identity::SecretKey;
use tokio::time::timeout_at;

/// How much of the derived secret is in the name: two keys never have the same.
const NAME_LEN: usize = 16;

/// As long as this exists, no other dial that waits for its turn goes on, if the name could be had.
#[derive(Debug, Default)]
pub(super) struct Alone {
    _name: Option<HeldName>,
    /// Whether another dial was waited for.
    pub(super) has_waited: bool,
}

/// Waits until no other dial of this key goes on, and not longer than until then. Does not wait if
/// somebody else has the name, or if there is no socket for it.
///
/// Cancel safe.
pub(super) async fn alone(host: &Host, key: &SecretKey, deadline: Instant) -> Alone {
    match timeout_at(deadline.into(), host.hold_name(name(key))).await {
        Ok(Ok(held)) => Alone {
            has_waited: held.has_waited,
            _name: Some(held),
        },
        Ok(Err(error)) => {
            tracing::debug!(%error, "other dials of this key cannot be waited for");
            Alone::default()
        }
        Err(_) => Alone::default(),
    }
}

/// Returns the name that goes with a key, and that tells nothing of it.
fn name(key: &SecretKey) -> String {
    let secret = key.derive("the name that is held while a dial goes on alone");
    let mut name = String::from("p2pconnect-");
    for byte in secret.iter().take(NAME_LEN) {
        // A string takes all that is written to it.
        write!(name, "{byte:02x}").unwrap_or_default();
    }
    name
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{sync::Semaphore, task::JoinSet};

    use super::*;

    /// Longer than a test may take.
    const LONG: Duration = Duration::from_secs(60);

    fn later() -> Instant {
        Instant::now() + LONG
    }

    #[tokio::test]
    async fn one_goes_on_at_a_time() {
        let host = Host::default();
        let key = SecretKey::generate().unwrap();
        let first = alone(&host, &key, later()).await;
        assert!(!first.has_waited);
        // There is no time to wait.
        assert!(!alone(&host, &key, Instant::now()).await.has_waited);
        let mut next = std::pin::pin!(alone(&host, &key, later()));
        tokio::select! {
            biased;
            _ = &mut next => panic!("two go on at a time"),
            () = tokio::task::yield_now() => {}
        }
        drop(first);
        assert!(next.await.has_waited);
    }

    #[tokio::test]
    async fn all_get_their_turn() {
        let host = Host::default();
        let key = Arc::new(SecretKey::generate().unwrap());
        let going_on = Arc::new(Semaphore::new(1));
        let mut dials = JoinSet::new();
        for _ in 0..40 {
            let (host, key) = (host.clone(), Arc::clone(&key));
            let going_on = Arc::clone(&going_on);
            dials.spawn(async move {
                let alone = alone(&host, &key, later()).await;
                let only = going_on.try_acquire().expect("another dial goes on");
                tokio::task::yield_now().await;
                drop(only);
                drop(alone);
            });
        }
        let ended = dials.join_all().await;
        assert_eq!(ended.len(), 40);
    }

    #[tokio::test]
    async fn another_key_is_not_waited_for() {
        let host = Host::default();
        let [one, other] = [(); 2].map(|()| SecretKey::generate().unwrap());
        let _first = alone(&host, &one, later()).await;
        assert!(!alone(&host, &other, later()).await.has_waited);
    }
}
