//! The 4-tuples of connections that were begun lately.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use p2pconnect_host::clock;

use crate::{machine::four_tuple::FourTuple, sync::lock};

/// For how long a NAT keeps the port of a connection that nobody has answered, at least: Linux for
/// 120 s, and RFC 5382 (REQ-5) asks for 4 minutes where it was answered.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The most 4-tuples that are remembered. Beyond that some are forgotten too early, which costs a
/// needless introduction at worst.
const MAX_TUPLES: usize = 8192;

/// Remembers the 4-tuples of the connections that all sessions of an endpoint have begun lately: a
/// NAT gives the next connection with the same 4-tuple the same port.
#[derive(Debug, Default)]
pub(crate) struct RecentTuples {
    lately: Mutex<HashMap<FourTuple, Instant>>,
    count: AtomicU64,
}

impl RecentTuples {
    /// Returns how many connections a NAT has given a port of their own.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Notes that a connection is begun, and returns whether it is the first one with this 4-tuple.
    pub(crate) fn is_new(&self, four_tuple: FourTuple) -> bool {
        let now = clock::now();
        let mut recent_tuples = lock(&self.lately);
        if recent_tuples.len() >= MAX_TUPLES {
            recent_tuples.retain(|_, since| now.duration_since(*since) < KEPT_FOR);
        }
        if recent_tuples.len() >= MAX_TUPLES {
            recent_tuples.clear();
        }
        let before = recent_tuples.insert(four_tuple, now);
        let is_new = before.is_none_or(|since| now.duration_since(since) >= KEPT_FOR);
        self.count.fetch_add(u64::from(is_new), Ordering::Relaxed);
        is_new
    }
}
