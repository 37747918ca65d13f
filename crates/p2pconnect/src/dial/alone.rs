//! Keeps dials of one machine out of each other's way where both NATs give each destination another port.
//!
//! Each side has to know from which ports the other side connects, and each connection of a dial beside it takes
//! one of those. A few dials find a gap by themselves; of a dozen, all with the same key as those of an editor, none
//! does. So a dial that has failed, or begun anew, under such circumstances goes on when no other one of its key
//! does.
//!
//! The dialler that goes on has a Unix socket with an abstract name (unix(7)), which only one socket can have, and which is
//! free again with the end of its process at the latest. The others connect to it, and are told by the system when it
//! is closed. The name is in the network namespace, as are the ports.
//!
//! The callee does its part, see [`one_each`](crate::introduction::one_each).

use std::{
    ffi::OsStr,
    fmt::Write as _,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use p2pconnect_identity::SecretKey;
use rustix::process::{Uid, geteuid};
use tokio::{
    net::{UnixListener, UnixStream},
    time::{sleep, timeout_at},
};

/// How much of the derived secret is in the name: two keys never have the same.
const NAME_LEN: usize = 16;

/// How long to wait until a name is tried again that somebody has who does not listen: somebody else has begun or ended
/// just then.
const AGAIN: Duration = Duration::from_millis(10);

/// How often in a row that may be so. Whoever goes on not to listen is none of these dials.
const MAX_REFUSALS: u32 = 5;

/// As long as this exists, no other dial that waits for its turn goes on, if the name could be had.
#[derive(Debug, Default)]
pub(super) struct Alone {
    _name: Option<UnixListener>,
    /// Whether another dial was waited for.
    pub(super) has_waited: bool,
}

/// Waits until no other dial of this key goes on, and not longer than until then. Does not wait if somebody else has
/// the name, or if there is no socket for it.
///
/// Cancel safe.
pub(super) async fn alone(key: &SecretKey, deadline: Instant) -> Alone {
    let name = name(key);
    match timeout_at(deadline.into(), take(&name, geteuid())).await {
        Ok(Ok(alone)) => alone,
        Ok(Err(error)) => {
            tracing::debug!(%error, "other dials of this key cannot be waited for");
            Alone::default()
        }
        Err(_) => Alone::default(),
    }
}

/// Takes a name as soon as no other process of this user has it.
async fn take(name: &Path, user: Uid) -> io::Result<Alone> {
    let (mut has_waited, mut refusals) = (false, 0);
    loop {
        match UnixListener::bind(name) {
            Ok(listener) => {
                return Ok(Alone {
                    _name: Some(listener),
                    has_waited,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        match UnixStream::connect(name).await {
            Ok(other) => {
                is_over(&other, user).await?;
                (has_waited, refusals) = (true, 0);
            }
            Err(error) if is_refusal(&error) && refusals < MAX_REFUSALS => {
                refusals += 1;
                sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Tells whether a name was free, or about to be, as it was connected to.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

/// Waits until the one at the other end of a connection, who never sends anything, is over.
async fn is_over(other: &UnixStream, user: Uid) -> io::Result<()> {
    // Anybody can see the name, and bind it.
    if other.peer_cred()?.uid() != user.as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    other.readable().await
}

/// Returns the name that goes with a key, and that tells nothing of it.
fn name(key: &SecretKey) -> PathBuf {
    let secret = key.derive("the name that is held while a dial goes on alone");
    let mut name = String::from("\0p2pconnect-");
    for byte in secret.iter().take(NAME_LEN) {
        // A string takes all that is written to it.
        write!(name, "{byte:02x}").unwrap_or_default();
    }
    OsStr::from_bytes(name.as_bytes()).into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::sync::Arc;

    use tokio::{sync::Semaphore, task::JoinSet};

    use super::*;

    /// Longer than a test may take.
    const LONG: Duration = Duration::from_secs(60);

    fn later() -> Instant {
        Instant::now() + LONG
    }

    #[tokio::test]
    async fn one_goes_on_at_a_time() {
        let key = SecretKey::generate().unwrap();
        let first = alone(&key, later()).await;
        assert!(!first.has_waited);
        // There is no time to wait.
        assert!(!alone(&key, Instant::now()).await.has_waited);
        let mut next = std::pin::pin!(alone(&key, later()));
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
        let key = Arc::new(SecretKey::generate().unwrap());
        let going_on = Arc::new(Semaphore::new(1));
        let mut dials = JoinSet::new();
        for _ in 0..40 {
            let (key, going_on) = (Arc::clone(&key), Arc::clone(&going_on));
            dials.spawn(async move {
                let alone = alone(&key, later()).await;
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
    async fn a_name_that_another_user_has_holds_nobody_up() {
        let key = SecretKey::generate().unwrap();
        let _taken = alone(&key, later()).await;
        let other = Uid::from_raw(geteuid().as_raw() + 1);
        let error = take(&name(&key), other).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn a_name_at_which_nobody_listens_holds_nobody_up() {
        let key = SecretKey::generate().unwrap();
        let address = socket2::SockAddr::unix(name(&key)).unwrap();
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&address).unwrap();
        let error = take(&name(&key), geteuid()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // Nor does one where there is no room to wait.
        socket.listen(0).unwrap();
        let _first = UnixStream::connect(name(&key)).await.unwrap();
        let error = take(&name(&key), geteuid()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn another_key_is_not_waited_for() {
        let [one, other] = [(); 2].map(|()| SecretKey::generate().unwrap());
        let _first = alone(&one, later()).await;
        assert!(!alone(&other, later()).await.has_waited);
    }
}
