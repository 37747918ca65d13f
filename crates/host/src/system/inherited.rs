//! Sockets that a service manager has opened for this process (sd_listen_fds(3)): it may open ports
//! that this user may not, and keeps what comes while the process is started anew.

use std::{
    env, io,
    net::SocketAddr,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use socket2::{Socket, Type};

/// The number of the first file that a service manager passes (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// The most files that are taken.
const MAX_FILES: RawFd = 64;

/// The sockets that a process was started with and that nothing has taken yet. Clones are the same
/// ones.
///
/// A [`Host`](crate::Host) that [has them](crate::Host::with_sockets) takes each when it is asked
/// for a socket of the same kind at the same address.
#[derive(Debug, Clone, Default)]
pub struct InheritedSockets(Arc<Mutex<Vec<Inherited>>>);

#[derive(Debug)]
struct Inherited {
    socket: Socket,
    kind: Type,
    address: SocketAddr,
}

impl InheritedSockets {
    /// Takes the sockets that the environment tells of. There are none where it tells of none, or
    /// not of this process, or they are taken already.
    ///
    /// # Errors
    ///
    /// The environment makes no sense, or a file is no socket of UDP, or of TCP that listens.
    pub fn from_environment() -> io::Result<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);

        let count = count(
            env::var("LISTEN_PID").ok().as_deref(),
            env::var("LISTEN_FDS").ok().as_deref(),
            std::process::id(),
        )?;
        if count == 0 || TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Self::default());
        }
        let sockets: io::Result<Vec<_>> = (FIRST..FIRST + count).map(take).collect();
        Ok(Self(Arc::new(Mutex::new(sockets?))))
    }

    /// Returns the addresses of those that nothing has taken.
    #[must_use]
    pub fn left(&self) -> Vec<SocketAddr> {
        self.sockets().iter().map(|it| it.address).collect()
    }

    /// Takes the socket of a kind at an address, if there is one.
    pub(super) fn take(&self, kind: Type, address: SocketAddr) -> Option<Socket> {
        let mut sockets = self.sockets();
        let is_it = |it: &Inherited| it.kind == kind && it.address == address;
        let found = sockets.iter().position(is_it)?;
        Some(sockets.swap_remove(found).socket)
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<Inherited>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many files there are for this process.
fn count(meant: Option<&str>, files: Option<&str>, process: u32) -> io::Result<RawFd> {
    let (Some(meant), Some(files)) = (meant, files) else {
        return Ok(0);
    };
    // A process that is started by the one that was meant has these variables as well.
    if meant.parse() != Ok(process) {
        return Ok(0);
    }
    let count = files.parse().ok().filter(|it| (0..=MAX_FILES).contains(it));
    count.ok_or_else(|| io::Error::other(format!("LISTEN_FDS is no number of files: {files:?}")))
}

#[expect(unsafe_code, reason = "a number of a file has to be believed")]
fn take(file: RawFd) -> io::Result<Inherited> {
    // SAFETY: the process was started with this file, nobody else in it knows its number, and this
    // is done once.
    let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(file) });
    let described = (|| {
        socket.set_cloexec(true)?;
        let kind = socket.r#type()?;
        let address = socket.local_addr()?.as_socket();
        let listens = kind == Type::DGRAM || kind == Type::STREAM && socket.is_listener()?;
        Ok::<_, io::Error>(address.filter(|_| listens).map(|address| (kind, address)))
    })();
    let unfit = |why: String| {
        let told = format!("file {file} of the service manager cannot be served on: {why}");
        io::Error::other(told)
    };
    match described {
        Ok(Some((kind, address))) => Ok(Inherited {
            socket,
            kind,
            address,
        }),
        Ok(None) => Err(unfit(
            "it is no socket of UDP, or of TCP that listens".into(),
        )),
        Err(error) => Err(unfit(error.to_string())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::{Host, Sharing};

    #[test]
    fn files_are_for_the_process_that_is_named() {
        assert_eq!(count(Some("7"), Some("2"), 7).unwrap(), 2);
        for (meant, files) in [
            (None, Some("2")),
            (Some("7"), None),
            (Some("8"), Some("2")),
            (Some("seven"), Some("2")),
            (Some("7"), Some("0")),
        ] {
            assert_eq!(count(meant, files, 7).unwrap(), 0);
        }
        for files in ["many", "-1", "65"] {
            assert!(count(Some("7"), Some(files), 7).is_err());
        }
    }

    #[tokio::test]
    async fn a_host_takes_the_socket_of_an_address_that_it_was_given() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let [at, other] = [udp.local_addr(), tcp.local_addr()].map(Result::unwrap);
        let inherited = |socket: Socket, kind, address| Inherited {
            socket,
            kind,
            address,
        };
        let sockets = InheritedSockets(Arc::new(Mutex::new(vec![
            inherited(udp.try_clone().unwrap().into(), Type::DGRAM, at),
            inherited(tcp.try_clone().unwrap().into(), Type::STREAM, other),
        ])));
        let host = Host::with_sockets(sockets.clone());
        assert!(host.is_system());
        assert_eq!(sockets.left(), [at, other]);
        // Whoever wants another kind at these addresses gets one of its own.
        host.tcp_socket(at, Sharing::Exclusive).unwrap();
        host.udp_socket(other, None).unwrap();
        // The original is there still, so nobody else could have them.
        host.udp_socket(at, Some(1 << 16)).unwrap();
        let socket = host.tcp_socket(other, Sharing::Exclusive).unwrap();
        let listener = socket.listen(8).unwrap();
        assert!(sockets.left().is_empty());
        assert!(host.udp_socket(at, None).is_err());
        let _client = tokio::net::TcpStream::connect(other).await.unwrap();
        listener.accept().await.unwrap();
    }
}
