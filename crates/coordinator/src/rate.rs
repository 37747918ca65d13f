//! Token buckets, one for each key.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::network::{SUBSCRIBERS_PER_SITE, site, subscriber};

/// The most keys that a limiter remembers, a few MiB; one is forgotten when its burst is whole
/// again.
const MAX_KEYS: usize = 65_536;

/// How often a full table is searched for keys to forget, so that a flood of new keys does not
/// cost a search each.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// A token bucket for each key, kept as the moment at which it will be full again (the generic
/// cell rate algorithm).
#[derive(Debug)]
pub(crate) struct RateLimiter<K> {
    full_at: BTreeMap<K, Instant>,
    burst: u32,
    interval: Duration,
    pruned_at: Option<Instant>,
}

impl<K: Ord + Copy> RateLimiter<K> {
    /// Allows `burst` at once for each key, and one more after each `interval`.
    pub(crate) const fn new(burst: u32, interval: Duration) -> Self {
        Self {
            full_at: BTreeMap::new(),
            burst,
            interval,
            pruned_at: None,
        }
    }

    /// Allows so many at once from now on, and one more after each `interval`. Whoever has taken
    /// some has to wait for them as long as before.
    pub(crate) const fn set(&mut self, burst: u32, interval: Duration) {
        self.burst = burst;
        self.interval = interval;
    }

    /// Takes one token of `key`'s. If there is none, returns how long it takes until there is.
    pub(crate) fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        self.take_many(key, 1, now)
    }

    /// Takes so many tokens of `key`'s. If there are not as many, takes none, and returns how long
    /// it takes until there are.
    pub(crate) fn take_many(&mut self, key: K, tokens: u32, now: Instant) -> Result<(), Duration> {
        let full_at = self.afford(key, tokens, now)?;
        self.full_at.insert(key, full_at);
        Ok(())
    }

    /// Returns when the bucket would be full again if so many tokens were taken. If there are not
    /// as many, returns how long it takes until there are.
    fn afford(&mut self, key: K, tokens: u32, now: Instant) -> Result<Instant, Duration> {
        let full_at = self.full_after(key, tokens, now).ok_or(PRUNE_EVERY)?;
        let owed = full_at.saturating_duration_since(now);
        let lacking = owed.saturating_sub(self.whole());
        if lacking.is_zero() {
            Ok(full_at)
        } else {
            Err(lacking)
        }
    }

    /// Takes one token of `key`'s in any case; returns how long to wait until it is there.
    ///
    /// Whoever waits before asking for another one has one outstanding, so that all who share a key
    /// take turns.
    pub(crate) fn reserve(&mut self, key: K, now: Instant) -> Duration {
        let Some(full_at) = self.full_after(key, 1, now) else {
            return self.interval;
        };
        self.full_at.insert(key, full_at);
        let owed = full_at.saturating_duration_since(now);
        owed.saturating_sub(self.whole())
    }

    /// Returns when the bucket would be full again if so many tokens were taken; `None` if there is
    /// no room for another key.
    fn full_after(&mut self, key: K, tokens: u32, now: Instant) -> Option<Instant> {
        let full_at = match self.full_at.get(&key).copied() {
            Some(full_at) => full_at.max(now),
            None if self.has_room(now) => now,
            None => return None,
        };
        Some(full_at + self.interval.saturating_mul(tokens))
    }

    const fn whole(&self) -> Duration {
        self.interval.saturating_mul(self.burst)
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

/// Token buckets of networks: one for each subscriber, and one for all subscribers of an IPv6 /48
/// together, which has four times as many tokens.
#[derive(Debug)]
pub(crate) struct NetworkLimiter {
    subscribers: RateLimiter<IpAddr>,
    sites: RateLimiter<IpAddr>,
}

impl NetworkLimiter {
    /// Allows nothing until it is [set](Self::set).
    pub(crate) const fn new() -> Self {
        Self {
            subscribers: RateLimiter::new(0, Duration::ZERO),
            sites: RateLimiter::new(0, Duration::ZERO),
        }
    }

    /// Allows a subscriber so many at once from now on, and one more after each `interval`.
    pub(crate) fn set(&mut self, burst: u32, interval: Duration) {
        let of_site = burst.saturating_mul(SUBSCRIBERS_PER_SITE);
        self.subscribers.set(burst, interval);
        self.sites.set(of_site, interval / SUBSCRIBERS_PER_SITE);
    }

    /// Takes so many tokens of those of a subscriber and of its site. If either has not as many,
    /// takes none, and returns how long it takes until there are.
    pub(crate) fn take_many(
        &mut self,
        ip: IpAddr,
        tokens: u32,
        now: Instant,
    ) -> Result<(), Duration> {
        let (subscriber, site) = (subscriber(ip), site(ip));
        if site.is_ipv6() {
            let of_subscriber = self.subscribers.afford(subscriber, tokens, now).err();
            let of_site = self.sites.afford(site, tokens, now).err();
            if let Some(lacking) = of_subscriber.max(of_site) {
                return Err(lacking);
            }
            self.sites.take_many(site, tokens, now)?;
        }
        self.subscribers.take_many(subscriber, tokens, now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn the_subscribers_of_a_site_have_four_times_as_much_together() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut limiter = NetworkLimiter::new();
        limiter.set(10, second);
        let of_site = |n| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 1));
        for n in 0..4 {
            assert_eq!(limiter.take_many(of_site(n), 10, start), Ok(()));
            assert_eq!(limiter.take_many(of_site(n), 1, start), Err(second));
        }
        // The fifth has everything of its own, and is not charged for what its site has not.
        assert_eq!(limiter.take_many(of_site(4), 4, start), Err(second));
        assert_eq!(limiter.take_many(of_site(4), 4, start + second), Ok(()));
        assert_eq!(
            limiter.take_many(of_site(4), 6, start + second),
            Err(second * 6 / 4)
        );
        let elsewhere = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1).into();
        assert_eq!(limiter.take_many(elsewhere, 10, start), Ok(()));
        for last in 0..9 {
            let v4 = IpAddr::from([192, 0, 2, last]);
            assert_eq!(limiter.take_many(v4, 10, start), Ok(()));
            assert_eq!(limiter.take_many(v4, 1, start), Err(second));
        }
    }

    #[test]
    fn a_burst_passes_then_one_each_interval() {
        let start = Instant::now();
        let interval = Duration::from_millis(250);
        let mut limiter = RateLimiter::new(3, interval);
        let taken = (0..5).filter(|_| limiter.take("a", start).is_ok()).count();
        assert_eq!(taken, 3);
        assert_eq!(limiter.take("b", start), Ok(()), "keys are independent");
        let half = interval / 2;
        assert_eq!(limiter.take("a", start + half), Err(interval - half));
        assert_eq!(limiter.take("a", start + interval), Ok(()));
        assert_eq!(limiter.take("a", start + interval), Err(interval));
        let later = start + interval * 100;
        let taken = (0..5).filter(|_| limiter.take("a", later).is_ok()).count();
        assert_eq!(taken, 3, "unused time saves up one burst, not more");
    }

    #[test]
    fn many_are_taken_whole_or_not_at_all() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(10, Duration::from_secs(1));
        let second = Duration::from_secs(1);
        assert_eq!(limiter.take_many("a", 6, start), Ok(()));
        assert_eq!(limiter.take_many("a", 5, start), Err(second));
        assert_eq!(limiter.take_many("a", 7, start), Err(second * 3));
        assert_eq!(limiter.take_many("a", 4, start), Ok(()));
        assert!(
            limiter
                .take_many("a", u32::MAX, start + second * 60)
                .is_err()
        );
    }

    #[test]
    fn those_who_wait_take_turns() {
        let start = Instant::now();
        let interval = Duration::from_millis(10);
        let mut limiter = RateLimiter::new(2, interval);
        let waits: Vec<_> = (0..4).map(|_| limiter.reserve("a", start)).collect();
        assert_eq!(
            waits,
            [Duration::ZERO, Duration::ZERO, interval, interval * 2]
        );
        assert_eq!(limiter.reserve("b", start), Duration::ZERO);
        assert_eq!(limiter.reserve("a", start + interval * 4), Duration::ZERO);
    }

    #[test]
    fn the_table_is_bounded_and_forgets() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(1, Duration::from_secs(10));
        for key in 0..MAX_KEYS {
            assert_eq!(limiter.take(key, start), Ok(()));
        }
        assert_eq!(limiter.take(MAX_KEYS, start), Err(PRUNE_EVERY));
        let later = start + Duration::from_secs(11);
        assert_eq!(limiter.take(MAX_KEYS, later), Ok(()));
        assert_eq!(limiter.full_at.len(), 1);
    }
}
