//! Who may connect: places for all, shares of them for networks, and proofs of address.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::config::{ServiceLimits, UNPROVEN_SHARE};
use crate::network::{SUBSCRIBERS_PER_SITE, site, subscriber};

/// Which part of the free places a subscriber may have taken and still take another one, as soon as
/// half of all are taken. So no number of subscribers with many connections takes the last place
/// from one that has none: two hundred leave hundreds free.
const SHARE_OF_FREE: usize = 64;

/// The same for a site.
const SITE_SHARE_OF_FREE: usize = 16;

/// How long it takes until another handshake may begin without a proof of address.
///
/// A handshake costs half a millisecond and leaves some 26 KiB until the idle timeout if its client
/// abandons it in its first packet, which may be forged: 64 a second are 3 % of a core and 50 MiB.
const UNPROVEN_INTERVAL: Duration = Duration::from_micros(15_625);

/// What to do with a connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on with the handshake.
    Accept,
    /// Have the client show that it receives at its address.
    Retry,
    /// Send it away.
    Refuse,
}

/// A connection attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) source: IpAddr,
    /// Whether the client is known to receive there.
    pub(super) validated: bool,
    /// How many connections QUIC keeps at this moment, those that have ended for us included.
    pub(super) held: usize,
}

/// Counts connections by where they come from. Pure.
#[derive(Debug)]
pub(super) struct Gate {
    limits: ServiceLimits,
    connections: usize,
    handshakes: usize,
    by_subscriber: BTreeMap<IpAddr, usize>,
    by_site: BTreeMap<IpAddr, usize>,
    /// Handshakes that have failed, and until when QUIC may keep what it knows of them. The
    /// earliest first: all are kept for the same time.
    lingering: VecDeque<(Instant, IpAddr)>,
    /// When the handshakes without a proof of address will be paid for, each by an interval.
    paid_at: Option<Instant>,
}

impl Gate {
    pub(super) const fn new(limits: ServiceLimits) -> Self {
        Self {
            limits,
            connections: 0,
            handshakes: 0,
            by_subscriber: BTreeMap::new(),
            by_site: BTreeMap::new(),
            lingering: VecDeque::new(),
            paid_at: None,
        }
    }

    /// Sets the limits for what comes from now on. The idle timeout stays, since those that linger
    /// are in its order.
    pub(super) fn set_limits(&mut self, limits: ServiceLimits) {
        let idle_timeout = self.limits.idle_timeout;
        self.limits = ServiceLimits {
            idle_timeout,
            ..limits
        };
    }

    /// Returns how many handshakes are under way, and how many places failed ones still take.
    pub(super) fn handshakes(&mut self, now: Instant) -> (usize, usize) {
        self.forget(now);
        (self.handshakes, self.lingering.len())
    }

    /// Decides on an attempt.
    pub(super) fn judge(&mut self, attempt: Attempt, now: Instant) -> Verdict {
        self.forget(now);
        let taken = self.connections.max(attempt.held);
        let free = self.limits.max_connections.saturating_sub(taken);
        if free == 0 || !self.has_share(attempt.source, free) {
            return Verdict::Refuse;
        }
        if attempt.validated {
            return Verdict::Accept;
        }
        // Forged attempts can thus take at most half of what an address may have.
        let limit = self.limits.max_connections_per_source;
        let from_source = count(&self.by_subscriber, subscriber(attempt.source));
        let failed = self.limits.max_connections / UNPROVEN_SHARE;
        let is_crowded = self.handshakes >= self.limits.handshakes_before_retry
            || self.lingering.len() >= failed.max(1)
            || from_source >= limit / 2;
        if is_crowded || !self.pay(now) {
            return Verdict::Retry;
        }
        Verdict::Accept
    }

    /// Tells whether one more connection from `source` leaves enough for others.
    fn has_share(&self, source: IpAddr, free: usize) -> bool {
        let limit = self.limits.max_connections_per_source;
        let from_source = count(&self.by_subscriber, subscriber(source));
        let from_site = count(&self.by_site, site(source));
        if from_source >= limit || from_site >= limit * SUBSCRIBERS_PER_SITE as usize {
            return false;
        }
        let is_roomy = free >= self.limits.max_connections / 2;
        let is_fair = |taken: usize, share: usize| taken == 0 || taken < free / share;
        is_roomy || is_fair(from_source, SHARE_OF_FREE) && is_fair(from_site, SITE_SHARE_OF_FREE)
    }

    /// Pays for a handshake without a proof of address. `false` if there were too many lately.
    fn pay(&mut self, now: Instant) -> bool {
        let burst = u32::try_from(self.limits.handshakes_before_retry).unwrap_or(u32::MAX);
        let paid_at = self.paid_at.map_or(now, |it| it.max(now));
        if paid_at >= now + UNPROVEN_INTERVAL.saturating_mul(burst) {
            return false;
        }
        self.paid_at = Some(paid_at + UNPROVEN_INTERVAL);
        true
    }

    /// Counts an accepted attempt.
    pub(super) fn enter(&mut self, source: IpAddr) {
        self.connections += 1;
        self.handshakes += 1;
        *self.by_subscriber.entry(subscriber(source)).or_default() += 1;
        *self.by_site.entry(site(source)).or_default() += 1;
    }

    /// Counts a handshake that is over, if it has succeeded or has left nothing behind.
    pub(super) const fn handshake_over(&mut self) {
        self.handshakes -= 1;
    }

    /// Counts a handshake that has failed. Its place is free only when QUIC has certainly forgotten
    /// it: a client that ends its attempt in its first packet is kept until the idle timeout.
    pub(super) fn handshake_failed(&mut self, source: IpAddr, now: Instant) {
        self.handshakes -= 1;
        let until = now + self.limits.idle_timeout;
        self.lingering.push_back((until, source));
    }

    /// Counts the end of a connection whose handshake has succeeded.
    pub(super) fn leave(&mut self, source: IpAddr) {
        self.connections -= 1;
        release(&mut self.by_subscriber, subscriber(source));
        release(&mut self.by_site, site(source));
    }

    /// Frees the places of failed handshakes that QUIC has forgotten by now.
    fn forget(&mut self, now: Instant) {
        while let Some((until, source)) = self.lingering.front().copied()
            && until <= now
        {
            self.lingering.pop_front();
            self.leave(source);
        }
    }
}

fn count(counts: &BTreeMap<IpAddr, usize>, network: IpAddr) -> usize {
    counts.get(&network).map_or(0, |&n| n)
}

fn release(counts: &mut BTreeMap<IpAddr, usize>, network: IpAddr) {
    if let Some(count) = counts.get_mut(&network) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const fn ip(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    /// A gate and a clock.
    struct Rig {
        gate: Gate,
        now: Instant,
    }

    impl Rig {
        fn new(limits: ServiceLimits) -> Self {
            Self {
                gate: Gate::new(limits),
                now: Instant::now(),
            }
        }

        fn small() -> Self {
            Self::new(ServiceLimits {
                max_connections: 6,
                max_connections_per_source: 4,
                handshakes_before_retry: 5,
                ..ServiceLimits::default()
            })
        }

        fn judge(&mut self, source: IpAddr, validated: bool) -> Verdict {
            let attempt = Attempt {
                source,
                validated,
                held: 0,
            };
            self.gate.judge(attempt, self.now)
        }

        /// Lets a client in for good, if there is room for it.
        fn connects(&mut self, source: IpAddr) -> bool {
            let is_let_in = self.judge(source, true) == Verdict::Accept;
            if is_let_in {
                self.gate.enter(source);
                self.gate.handshake_over();
            }
            is_let_in
        }
    }

    #[test]
    fn one_address_cannot_take_everything() {
        let mut rig = Rig::small();
        for _ in 0..2 {
            assert_eq!(rig.judge(ip(1), false), Verdict::Accept);
            rig.gate.enter(ip(1));
        }
        assert_eq!(rig.judge(ip(1), false), Verdict::Retry, "half is taken");
        for _ in 0..2 {
            assert_eq!(rig.judge(ip(1), true), Verdict::Accept);
            rig.gate.enter(ip(1));
        }
        assert_eq!(rig.judge(ip(1), true), Verdict::Refuse);
        assert_eq!(rig.judge(ip(2), false), Verdict::Accept);
    }

    #[test]
    fn many_handshakes_at_once_must_prove_their_address() {
        let mut rig = Rig::small();
        for last in 1..=5 {
            rig.gate.enter(ip(last));
        }
        assert_eq!(rig.judge(ip(6), false), Verdict::Retry);
        assert_eq!(rig.judge(ip(6), true), Verdict::Accept);
        rig.gate.handshake_over();
        assert_eq!(rig.judge(ip(6), false), Verdict::Accept);
        rig.gate.enter(ip(6));
        assert_eq!(rig.judge(ip(7), true), Verdict::Refuse, "full");
    }

    #[test]
    fn handshakes_that_end_at_once_are_counted_by_the_second() {
        let mut rig = Rig::new(ServiceLimits::default());
        let mut accepted = 0;
        // A forged flood: each attempt fails in its first packet, 3,000 a second for 20 s.
        for n in 0..60_000_u32 {
            rig.now += Duration::from_micros(333);
            let source = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
            if rig.judge(source, false) == Verdict::Accept {
                rig.gate.enter(source);
                rig.gate.handshake_failed(source, rig.now);
                accepted += 1;
            }
        }
        assert!((1_000..=20 * 64 + 128).contains(&accepted), "{accepted}");
        assert_eq!(
            rig.judge(ip(1), true),
            Verdict::Accept,
            "who proves its address"
        );
    }

    #[test]
    fn forged_handshakes_leave_places_where_there_are_few() {
        let mut rig = Rig::new(ServiceLimits::default().within_memory(64 << 20));
        let mut under_way = VecDeque::new();
        for n in 0..20_000_u32 {
            rig.now += Duration::from_millis(1);
            let source = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
            if rig.judge(source, false) == Verdict::Accept {
                rig.gate.enter(source);
                under_way.push_back((rig.now + Duration::from_secs(10), source));
            }
            // Half of them end at once, and the others when they have taken too long.
            let ended = match under_way.front() {
                Some((ends, _)) if *ends <= rig.now => under_way.pop_front(),
                Some(_) | None if n % 2 == 0 => under_way.pop_back(),
                Some(_) | None => None,
            };
            if let Some((_, from)) = ended {
                rig.gate.handshake_failed(from, rig.now);
            }
        }
        for last in 0..128 {
            assert!(rig.connects(ip(last)), "{last} of {}", rig.gate.connections);
        }
    }

    #[test]
    fn a_failed_handshake_keeps_its_place_for_as_long_as_quic_does() {
        let mut rig = Rig::small();
        for _ in 0..4 {
            rig.gate.enter(ip(1));
            rig.gate.handshake_failed(ip(1), rig.now);
        }
        assert_eq!(rig.judge(ip(1), true), Verdict::Refuse);
        rig.now += rig.gate.limits.idle_timeout;
        assert_eq!(rig.judge(ip(1), true), Verdict::Accept);
        assert!(rig.gate.by_subscriber.is_empty() && rig.gate.by_site.is_empty());
    }

    #[test]
    fn what_quic_still_keeps_is_counted() {
        let mut rig = Rig::small();
        let attempt = Attempt {
            source: ip(1),
            validated: true,
            held: 6,
        };
        assert_eq!(rig.gate.judge(attempt, rig.now), Verdict::Refuse);
    }

    #[test]
    fn greedy_addresses_leave_places_for_others() {
        let mut rig = Rig::new(ServiceLimits::default());
        let mut taken = 0;
        for address in 0..200_u32 {
            let source = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + address));
            while rig.connects(source) {
                taken += 1;
            }
        }
        assert!(taken > 12_000, "the places are there to be used: {taken}");
        for last in 0..200 {
            assert!(rig.connects(ip(last)), "after {taken} connections");
        }
    }

    #[test]
    fn the_networks_of_one_site_count_together() {
        let mut rig = Rig::new(ServiceLimits::default());
        let mut taken = 0;
        for network in 0..200_u16 {
            let source = Ipv6Addr::new(0x2001, 0xdb8, 1, network, 0, 0, 0, 1);
            while rig.connects(source.into()) {
                taken += 1;
            }
        }
        assert_eq!(taken, 512 * SUBSCRIBERS_PER_SITE as usize);
        let other = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
        assert!(rig.connects(other.into()));
    }

    #[test]
    fn nothing_remains_of_connections_that_left() {
        let mut gate = Rig::small().gate;
        gate.enter(ip(1));
        gate.handshake_over();
        gate.leave(ip(1));
        assert_eq!((gate.connections, gate.handshakes), (0, 0));
        assert!(gate.by_subscriber.is_empty() && gate.by_site.is_empty());
    }
}
