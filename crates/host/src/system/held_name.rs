//! Names that one process of a user holds at a time.
//!
//! Whoever holds a name has a Unix socket with an abstract name (unix(7)), which only one socket
//! can have, and which is free again with the end of its process at the latest. The others connect
//! to it, and are told by the system when it is closed. The name is in the network namespace, as
//! ports are.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Uid, geteuid};
use tokio::{
    net::{UnixListener, UnixStream},
    time::sleep,
};

use crate::platform::HeldName;

/// How long to wait until a name is tried again that somebody has who does not listen: somebody
/// else has begun or ended just then.
const AGAIN: Duration = Duration::from_millis(10);

/// How often in a row that may be so. Whoever goes on not to listen is no program of ours.
const MAX_REFUSALS: u32 = 5;

/// Holds a name as soon as no other process of this user holds it.
///
/// Fails if another user holds it, or somebody who does not listen. Cancel safe.
pub(super) async fn hold(name: &str) -> io::Result<HeldName> {
    hold_as(&path(name), geteuid()).await
}

fn path(name: &str) -> PathBuf {
    OsStr::from_bytes(format!("\0{name}").as_bytes()).into()
}

async fn hold_as(name: &Path, user: Uid) -> io::Result<HeldName> {
    let (mut has_waited, mut refusals) = (false, 0);
    loop {
        match UnixListener::bind(name) {
            Ok(listener) => return Ok(HeldName::new(has_waited, listener)),
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    /// Returns a name that no other test has.
    fn name_of(test: &str) -> String {
        format!("p2pconnect-host-test-{test}-{}", std::process::id())
    }

    #[tokio::test]
    async fn a_name_that_another_user_has_holds_nobody_up() {
        let name = name_of("another-user");
        let _taken = hold(&name).await.unwrap();
        let other = Uid::from_raw(geteuid().as_raw() + 1);
        let error = hold_as(&path(&name), other).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn a_name_at_which_nobody_listens_holds_nobody_up() {
        let name = name_of("nobody");
        let address = socket2::SockAddr::unix(path(&name)).unwrap();
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&address).unwrap();
        let error = hold(&name).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // Nor does one where there is no room to wait.
        socket.listen(0).unwrap();
        let _first = UnixStream::connect(path(&name)).await.unwrap();
        let error = hold(&name).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
