use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The most keys that a limiter remembers, a few MiB; one is forgotten when its burst is whole
/// again.
const MAX_KEYS: usize = 65_536;

/// How often a full table is searched for keys to forget, so that a flood of new keys does not
/// cost a search each.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// A token bucket for each key, kept as the moment at which it will be full again (the generic
/// cell rate algorithm).
#[derive(Debug)]
pub(super) struct RateLimiter<K> {
    full_at: BTreeMap<K, Instant>,
    burst: u32,
    interval: Duration,
    pruned_at: Option<Instant>,
}

impl<K: Ord + Copy> RateLimiter<K> {
    /// Allows `burst` at once for each key, and one more after each `interval`.
    pub(super) const fn new(burst: u32, interval: Duration) -> Self {
        Self {
            full_at: BTreeMap::new(),
            burst,
            interval,
            pruned_at: None,
        }
    }

    /// Takes one token of `key`'s; tells whether there was one.
    pub(super) fn take(&mut self, key: K, now: Instant) -> bool {
        let full_at = match self.full_at.get(&key).copied() {
            Some(full_at) => full_at.max(now) + self.interval,
            None if self.has_room(now) => now + self.interval,
            None => return false,
        };
        if full_at.saturating_duration_since(now) > self.interval * self.burst {
            return false;
        }
        self.full_at.insert(key, full_at);
        true
    }

    fn has_room(&mut self, now: Instant) -> bool {
        if self.full_at.len() < MAX_KEYS {
            return true;
        }
        let due = |at| now.saturating_duration_since(at) >= PRUNE_EVERY;
        if self.pruned_at.is_none_or(due) {
            self.pruned_at = Some(now);
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        self.full_at.len() < MAX_KEYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_each_interval() {
        let start = Instant::now();
        let interval = Duration::from_millis(250);
        let mut limiter = RateLimiter::new(3, interval);
        let taken = (0..5).filter(|_| limiter.take("a", start)).count();
        assert_eq!(taken, 3);
        assert!(limiter.take("b", start), "keys are independent");
        assert!(!limiter.take("a", start + interval / 2));
        assert!(limiter.take("a", start + interval));
        assert!(!limiter.take("a", start + interval));
        let later = start + interval * 100;
        let taken = (0..5).filter(|_| limiter.take("a", later)).count();
        assert_eq!(taken, 3, "unused time saves up one burst, not more");
    }

    #[test]
    fn the_table_is_bounded_and_forgets() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(1, Duration::from_secs(10));
        for key in 0..MAX_KEYS {
            assert!(limiter.take(key, start));
        }
        assert!(!limiter.take(MAX_KEYS, start));
        assert!(limiter.take(MAX_KEYS, start + Duration::from_secs(11)));
        assert_eq!(limiter.full_at.len(), 1);
    }
}
