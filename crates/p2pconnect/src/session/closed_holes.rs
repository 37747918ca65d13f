//! The holes whose sockets have been closed before anything came through them.
//!
//! A NAT keeps such a hole open for a while, and lets the peer's SYN pass. The socket that sent our
//! SYN is gone, so a listener would answer, with a sequence number that the NAT does not know. Some
//! NATs, Linux among them, pass that answer and nothing after it: the peer has a connection on
//! which it never hears a word, and takes it for the one. So no listener answers there, see
//! [`ignore`](p2pconnect_host::TcpListener::ignore).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use p2pconnect_host::clock;
use tokio::time::sleep_until;

use crate::sync::{Watched, Watcher, lock};

/// How long a hole is remembered: as long as a NAT keeps it, which is for four minutes at least
/// (RFC 5382, REQ-5). Linux does so for two.
const MEMORY: Duration = Duration::from_secs(240);

/// The most holes that are remembered, as a filter has room for no more: five sets of 640, or all
/// ports of the largest range that is filled. The oldest are forgotten.
const MAX_HOLES: usize = 3500;

/// How long to wait for more before a listener is told: a session closes its holes one by one.
const SETTLING: Duration = Duration::from_millis(5);

/// From which of our ports and to where holes led that are closed, and since when. Our address does
/// not count: listeners have all of them.
#[derive(Debug, Default)]
pub(crate) struct ClosedHoles {
    closed: Mutex<Record>,
    changes: Watched<()>,
}

#[derive(Debug, Default)]
struct Record {
    since: BTreeMap<(u16, SocketAddr), Instant>,
    /// The same in the order of time.
    order: BTreeSet<(Instant, u16, SocketAddr)>,
}

impl ClosedHoles {
    /// Notes that the socket of a hole is gone.
    pub(crate) fn note(&self, port: u16, remote: SocketAddr) {
        self.with(|record| record.note(port, remote, clock::now()));
        self.changes.notify();
    }

    /// Tells whether a connection has come through one.
    pub(crate) fn leads(&self, port: u16, remote: SocketAddr) -> bool {
        self.with(|record| {
            record.forget(clock::now());
            record.since.contains_key(&(port, remote))
        })
    }

    /// Returns to where those lead that begin at a port.
    pub(crate) fn from(&self, port: u16) -> BTreeSet<SocketAddr> {
        self.with(|record| {
            record.forget(clock::now());
            record.from(port)
        })
    }

    /// Watches which there are.
    pub(crate) fn changes(&self) -> HoleChanges<'_> {
        HoleChanges {
            holes: self,
            news: self.changes.watch(),
            due: None,
        }
    }

    fn with<T>(&self, use_record: impl FnOnce(&mut Record) -> T) -> T {
        use_record(&mut lock(&self.closed))
    }
}

impl Record {
    fn note(&mut self, port: u16, remote: SocketAddr, now: Instant) {
        if let Some(former) = self.since.insert((port, remote), now) {
            self.order.remove(&(former, port, remote));
        }
        self.order.insert((now, port, remote));
        while self.order.len() > MAX_HOLES {
            self.forget_first();
        }
    }

    /// Forgets what no NAT has open any more.
    fn forget(&mut self, now: Instant) {
        while self.expiry().is_some_and(|expiry| expiry <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, port, remote)) = self.order.pop_first() {
            self.since.remove(&(port, remote));
        }
    }

    /// Returns when the next one is forgotten.
    fn expiry(&self) -> Option<Instant> {
        self.order.first().map(|(since, ..)| *since + MEMORY)
    }

    fn from(&self, port: u16) -> BTreeSet<SocketAddr> {
        let all = self.since.keys().filter(|(from, _)| *from == port);
        all.map(|(_, remote)| *remote).collect()
    }
}

/// Tells when holes have been closed or forgotten.
pub(crate) struct HoleChanges<'a> {
    holes: &'a ClosedHoles,
    news: Watcher<()>,
    /// When to tell, if there is anything.
    due: Option<Instant>,
}

impl HoleChanges<'_> {
    /// Waits for the next change. Cancel safe.
    pub(crate) async fn next(&mut self) {
        let due = match self.due {
            Some(due) => due,
            None => {
                self.news().await;
                *self.due.insert(clock::now() + SETTLING)
            }
        };
        sleep_until(due.into()).await;
        self.due = None;
        self.news.mark_unchanged();
    }

    async fn news(&mut self) {
        let expiring = async {
            match self.holes.with(|record| record.expiry()) {
                Some(expiry) => sleep_until(expiry.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.news.changed() => {}
            () = expiring => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn a_hole_is_remembered_as_long_as_a_nat_may_keep_it() {
        let mut record = Record::default();
        let began = Instant::now();
        record.note(1, address(2), began);
        record.note(1, address(3), began);
        record.note(9, address(4), began);
        // Opened and closed once more.
        record.note(1, address(2), began + MEMORY / 2);
        assert_eq!(record.from(1), [2, 3].map(address).into());
        record.forget(began + MEMORY);
        assert_eq!(record.from(1), [address(2)].into());
        record.forget(began + MEMORY * 2);
        assert!(record.since.is_empty() && record.order.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten_for_lack_of_room() {
        let mut record = Record::default();
        let began = Instant::now();
        let most = u16::try_from(MAX_HOLES).unwrap();
        for port in 0..=most {
            let at = began + Duration::from_nanos(port.into());
            record.note(1, address(port), at);
        }
        let left = record.from(1);
        assert_eq!(left.len(), MAX_HOLES);
        assert!(!left.contains(&address(0)) && left.contains(&address(most)));
    }

    #[tokio::test(start_paused = true)]
    async fn holes_that_close_together_are_one_change() {
        let holes = ClosedHoles::default();
        let mut changes = holes.changes();
        for port in 0..9 {
            holes.note(1, address(port));
        }
        changes.next().await;
        assert!(timeout(MEMORY / 2, changes.next()).await.is_err());
    }
}
