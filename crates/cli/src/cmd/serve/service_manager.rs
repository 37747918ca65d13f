//! What a service manager such as systemd is told (sd_notify(3)): that the server is ready, reads
//! its settings again, ends, and is alive.

use std::{
    env,
    ffi::OsStr,
    future::pending,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Arc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

/// What it takes to end when there are no peers any more, and some more.
const TO_END: Duration = Duration::from_secs(10);

/// The way to whoever has started this process, if it wants to hear of it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceManager {
    socket: Option<Arc<UnixDatagram>>,
    /// How soon it ends a process that says nothing.
    patience: Option<Duration>,
}

impl ServiceManager {
    /// Returns the one that the environment tells of.
    pub(super) fn of_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|it| !it.is_empty()) else {
            return Self::default();
        };
        match connect(&name) {
            Ok(socket) => Self {
                socket: Some(Arc::new(socket)),
                patience: patience(
                    env::var("WATCHDOG_USEC").ok().as_deref(),
                    env::var("WATCHDOG_PID").ok().as_deref(),
                    std::process::id(),
                ),
            },
            Err(error) => {
                warn!(%error, "the service manager cannot be reached");
                Self::default()
            }
        }
    }

    /// Says that all sockets are there, and the settings in effect.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// Says that the settings are being read again.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Says that the server ends, and has so much time for that at most.
    pub(super) fn stopping(&self, within: Duration) {
        let micros = (within + TO_END).as_micros();
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}"));
    }

    /// Says at intervals that the server is alive, each time after it has shown that by work that
    /// needs all its locks. Does not end.
    pub(super) async fn watchdog(self, work: impl Fn()) {
        let Some(patience) = self.patience else {
            return pending().await;
        };
        let mut beat = interval(patience / 2);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            work();
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
        {
            warn!(%error, "the service manager does not hear");
        }
    }
}

/// Connects to a socket at a path, or by a name that begins with `@`. Nothing waits for it.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Reads how soon a process that says nothing is ended, if that is about this one.
fn patience(micros: Option<&str>, meant: Option<&str>, process: u32) -> Option<Duration> {
    let is_meant = meant.is_none_or(|meant| meant.parse() == Ok(process));
    let micros = micros?.parse().ok().filter(|it| *it > 0 && is_meant)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    /// Returns a service manager with this patience, and where it hears.
    fn manager(patience: Option<Duration>) -> (ServiceManager, UnixDatagram) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let hears = UnixDatagram::bind(&path).unwrap();
        hears.set_nonblocking(true).unwrap();
        let socket = Some(Arc::new(connect(path.as_os_str()).unwrap()));
        (ServiceManager { socket, patience }, hears)
    }

    fn heard(hears: &UnixDatagram) -> String {
        let mut state = [0; 256];
        let length = hears.recv(&mut state).unwrap();
        String::from_utf8(state[..length].to_vec()).unwrap()
    }

    #[test]
    fn what_happens_is_told_in_the_words_of_the_protocol() {
        let (manager, hears) = manager(None);
        manager.ready();
        assert_eq!(heard(&hears), "READY=1");
        manager.reloading();
        let told = heard(&hears);
        let micros = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(micros.unwrap().parse::<u64>().unwrap() > 0, "{told}");
        manager.stopping(Duration::from_secs(30));
        let told = "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000";
        assert_eq!(heard(&hears), told);
        // Nobody waits for one that has gone.
        drop(hears);
        manager.ready();
        ServiceManager::default().ready();
    }

    #[test]
    fn an_abstract_name_is_one() {
        let name = format!("@p2pconnect-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let hears = UnixDatagram::bind_addr(&address).unwrap();
        connect(OsStr::new(&name)).unwrap().send(b"x").unwrap();
        assert_eq!(heard(&hears), "x");
    }

    #[test]
    fn a_watchdog_is_for_the_process_that_is_named() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(patience(Some("1000000"), None, 7), second);
        assert_eq!(patience(Some("1000000"), Some("7"), 7), second);
        for (micros, meant) in [
            (None, None),
            (Some("0"), None),
            (Some("soon"), None),
            (Some("1000000"), Some("8")),
        ] {
            assert_eq!(patience(micros, meant, 7), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_comes_twice_in_the_time_that_is_given() {
        let (manager, hears) = manager(Some(Duration::from_secs(10)));
        let works = std::cell::Cell::new(0);
        let watchdog = manager.watchdog(|| works.set(works.get() + 1));
        let watched = tokio::time::timeout(Duration::from_secs(12), watchdog);
        watched.await.unwrap_err();
        for _ in 0..3 {
            assert_eq!(heard(&hears), "WATCHDOG=1");
        }
        assert_eq!(works.get(), 3);
    }
}
