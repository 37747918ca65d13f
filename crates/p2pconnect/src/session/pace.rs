use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// For how long a NAT keeps the port of a connection that nobody has answered, at least: Linux for
/// 120 s, and RFC 5382 (REQ-5) asks for 4 minutes where it was answered.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// How many connections are remembered at most. Some are forgotten too early beyond that, which
/// costs a needless introduction at worst.
const MAX_TRAILS: usize = 8192;

/// Lets others see how many connections a session begins, and have it begin no more. Clones share
/// it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How many connections over IPv4 have been begun that a NAT gives a port of their own, once
    /// any has been begun.
    begun: watch::Sender<Option<u32>>,
    is_held: AtomicBool,
    trails: Arc<Trails>,
}

/// Remembers from where to where connections were begun lately, by all sessions of an endpoint: the
/// next one with the same addresses gets the same port from a NAT.
#[derive(Debug, Default)]
pub(crate) struct Trails {
    lately: Mutex<HashMap<(SocketAddr, SocketAddr), Instant>>,
    count: AtomicU64,
}

impl Trails {
    /// Returns how many connections have got a port of their own.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Tells whether a connection is the first one with these addresses.
    fn is_new(&self, addresses: (SocketAddr, SocketAddr)) -> bool {
        let now = Instant::now();
        let mut trails = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if trails.len() >= MAX_TRAILS {
            trails.retain(|_, since| now.duration_since(*since) < KEPT_FOR);
        }
        if trails.len() >= MAX_TRAILS {
            trails.clear();
        }
        let before = trails.insert(addresses, now);
        let is_new = before.is_none_or(|since| now.duration_since(since) >= KEPT_FOR);
        self.count.fetch_add(u64::from(is_new), Ordering::Relaxed);
        is_new
    }
}

impl Pace {
    pub(crate) fn new(trails: Arc<Trails>) -> Self {
        Self(Arc::new(Shared {
            trails,
            ..Shared::default()
        }))
    }

    /// Tells whether no other connection is to be begun.
    pub(crate) fn is_held(&self) -> bool {
        self.0.is_held.load(Ordering::Relaxed)
    }

    /// Notes that a connection is begun, and counts it if it is over IPv4.
    pub(super) fn begins(&self, addresses: (SocketAddr, SocketAddr), is_over_ipv4: bool) {
        let new = u32::from(is_over_ipv4 && self.0.trails.is_new(addresses));
        self.0
            .begun
            .send_modify(|begun| *begun = Some(begun.unwrap_or_default() + new));
    }

    /// Waits until a connection has been begun. Cancel safe.
    pub(crate) async fn begun(&self) {
        let mut begun = self.0.begun.subscribe();
        // The sender lives as long as `self`.
        if begun.wait_for(Option::is_some).await.is_err() {
            std::future::pending().await
        }
    }

    /// Returns how many ports a NAT has given to the connections over IPv4 that have been begun.
    pub(crate) fn count(&self) -> u32 {
        self.0.begun.borrow().unwrap_or_default()
    }

    /// Has no further connection begun. Those that are under way go on.
    pub(crate) fn hold(&self) {
        self.0.is_held.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_nat_gives_no_new_port_is_not_counted() {
        let trails = Arc::new(Trails::default());
        let address = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        let pace = Pace::new(Arc::clone(&trails));
        pace.begins((address(1), address(2)), true);
        pace.begins((address(1), address(3)), true);
        pace.begins((address(1), address(2)), true);
        pace.begins((address(1), address(4)), false);
        assert_eq!(pace.count(), 2);
        // Another session of the same endpoint.
        let pace = Pace::new(Arc::clone(&trails));
        pace.begins((address(1), address(3)), true);
        assert_eq!(pace.count(), 0);
        pace.begins((address(4), address(3)), true);
        assert_eq!(pace.count(), 1);
        assert_eq!(trails.count(), 3);
        assert!(!pace.is_held());
        pace.hold();
        assert!(pace.clone().is_held());
    }
}
