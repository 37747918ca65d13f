//! What may be sent where, by what has been sent there lately: pure.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use p2pconnect_proto::{is_global, represented};
use p2pconnect_punch::Purpose;

/// The most SYNs to addresses in one network that a peer has named, repeated ones apart.
///
/// Two for each of 256 peers behind one carrier's NAT that are dialled at once: as many as a
/// coordinator lets one dial at a time.
const NAMED: u32 = 512;

/// How many of these may repeat an attempt that was turned away, so that others find something
/// left. A round between two NATs that answer with RST sends 200 at most, and fewer than 10 as a
/// rule.
const AGAIN: u32 = 384;

/// The most SYNs to ports in one network that are guessed.
///
/// Two rounds of a dial that meets nobody: all ports of the largest range that is filled, each
/// repeated once before its round is given up; or 924 connections, each repeated twice. A third
/// round finds little left, and is hardly ever needed. A dozen dials at once need less, since most
/// get theirs within the first 462.
const GUESSED: u32 = 3 * 3_200;

/// The most first SYNs to addresses in one network for peers that have wasted nothing there, when
/// all else is spent: what others waste keeps no peer out. It takes four of them to dial one, as a
/// rule, and 16 where it names as many addresses.
const RESERVED: u32 = 64;

/// After how long one more of these is granted.
const RESERVED_INTERVAL: Duration = Duration::from_secs(1);

/// Up to how many SYNs a peer counts as one that has wasted nothing in a network: two pairs each
/// for 16 addresses.
const UNPROVEN: u32 = 32;

/// After how long one more SYN to a network is granted.
///
/// Eight a second are what it takes to dial a peer that cannot be reached again and again for ever:
/// four pairs of ports, which the kernel repeats for 7 s, twice in 15 s. A full batch of guesses is
/// there again after a minute.
const NETWORK_INTERVAL: Duration = Duration::from_millis(125);

/// The most SYNs to all public networks: those of 256 peers, some of them guessed. What is left of
/// them for guesses is more than [`GUESSED`].
const PUBLIC: u32 = 13_056;

/// The time after which one more SYN to public networks is granted: 128 a second, which is sixteen
/// peers that cannot be reached, all the time.
const PUBLIC_INTERVAL: Duration = Duration::from_micros(7_812);

/// The most SYNs to all networks that only those inside can reach. There are few of these, and a
/// machine in them answers the first.
const PRIVATE: u32 = 2_048;

/// The time after which one more SYN to these is granted: 32 a second.
const PRIVATE_INTERVAL: Duration = Duration::from_micros(31_250);

/// The share of what may be sent to all networks that is kept for the first SYNs to addresses that
/// a peer has named: whoever makes an endpoint waste the rest keeps nobody else from it.
const KEPT_FOR_FIRST: u32 = 4;

/// The most networks that are remembered, 2 MiB of them. One is forgotten when its debt is paid:
/// after a second, if it was sent a few SYNs.
const MAX_NETWORKS: usize = 16_384;

/// How often a full table is searched for networks to forget, so that a flood does not cost a
/// search each.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// A network whose addresses are counted together: an IPv4 /24, an IPv6 /48.
///
/// The smallest that are routed between providers, so that whoever is attacked is one network. An
/// IPv6 site has all of a /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TargetNetwork {
    first: IpAddr,
    is_private: bool,
}

impl TargetNetwork {
    /// Returns the network of an address, or of the IPv4 address that it stands for: whoever is
    /// attacked is the same in either form.
    pub(crate) fn of(ip: IpAddr) -> Self {
        let first = match represented(ip) {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                [a, b, c, 0].into()
            }
            IpAddr::V6(v6) => {
                let [a, b, c, ..] = v6.segments();
                [a, b, c, 0, 0, 0, 0, 0].into()
            }
        };
        Self {
            first,
            is_private: !is_global(ip),
        }
    }

    /// Takes an address that stands for a public one for a network of its own.
    pub(crate) const fn single(ip: IpAddr) -> Self {
        Self {
            first: ip,
            is_private: false,
        }
    }
}

/// What a SYN is charged to. Guessed ports have a bill of their own, so that they keep nobody from
/// an address that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bill {
    network: TargetNetwork,
    is_guess: bool,
}

impl Bill {
    pub(crate) fn new(network: TargetNetwork, purpose: Purpose) -> Self {
        Self {
            network,
            is_guess: purpose == Purpose::Guess,
        }
    }

    pub(crate) const fn network(self) -> TargetNetwork {
        self.network
    }
}

/// What is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// A SYN that has been granted.
    Once,
    /// So many more, as the kernel does.
    Repeatedly(u32),
}

impl Sent {
    const fn count(self) -> u32 {
        match self {
            Self::Once => 1,
            Self::Repeatedly(count) => count,
        }
    }
}

/// What has been sent and is not paid off: a leaky bucket, kept as the moment at which it is empty.
#[derive(Debug, Clone, Copy, Default)]
struct Debt(Option<Instant>);

impl Debt {
    /// Tells whether less than so many are owed.
    fn is_below(self, count: u32, interval: Duration, now: Instant) -> bool {
        self.owed(now) < interval.saturating_mul(count)
    }

    fn owed(self, now: Instant) -> Duration {
        self.0.map_or(Duration::ZERO, |paid_at| {
            paid_at.saturating_duration_since(now)
        })
    }

    fn add(&mut self, count: u32, interval: Duration, now: Instant) {
        let owed = self.owed(now) + interval.saturating_mul(count);
        self.0 = now.checked_add(owed);
    }

    fn give_back(&mut self, owed: Duration) {
        self.0 = self.0.and_then(|paid_at| paid_at.checked_sub(owed));
    }
}

/// The part of what is owed that one peer is the reason for. It is paid off no more slowly than the
/// whole, so that to give it back forgives nobody else.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Owed {
    network: Debt,
    total: Shares,
}

impl Owed {
    pub(super) fn add(&mut self, bill: Bill, sent: Sent, now: Instant) {
        self.total.add(bill, sent, now);
        self.network.add(sent.count(), NETWORK_INTERVAL, now);
    }

    pub(super) fn is_some(&self, now: Instant) -> bool {
        !self.network.owed(now).is_zero()
    }

    /// Tells whether it is so little that it may be the beginning of a dial that succeeds.
    pub(super) fn is_little(&self, now: Instant) -> bool {
        self.network.is_below(UNPROVEN, NETWORK_INTERVAL, now)
    }
}

/// What is owed for all networks that are public, or private.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    public: Shares,
    /// By itself, so that what is found inside a network cannot be told from what is sent outside.
    private: Shares,
}

impl Total {
    const fn of(&mut self, network: TargetNetwork) -> &mut Shares {
        if network.is_private {
            &mut self.private
        } else {
            &mut self.public
        }
    }
}

/// What is owed for such networks.
#[derive(Debug, Clone, Copy, Default)]
struct Shares {
    all: Debt,
    /// The same without what the kernel has repeated of guesses, which may be several times as much
    /// as is granted: nobody is kept from a named address by it.
    granted: Debt,
}

impl Shares {
    /// Returns how many SYNs there are, and after which time there is another one.
    const fn limits(network: TargetNetwork) -> (u32, Duration) {
        if network.is_private {
            (PRIVATE, PRIVATE_INTERVAL)
        } else {
            (PUBLIC, PUBLIC_INTERVAL)
        }
    }

    /// Tells whether there is a SYN left.
    fn has_left(&self, network: TargetNetwork, purpose: Purpose, now: Instant) -> bool {
        let (most, interval) = Self::limits(network);
        let kept = most / KEPT_FOR_FIRST;
        match purpose {
            Purpose::First => self.granted.is_below(most, interval, now),
            Purpose::Again | Purpose::Guess => self.all.is_below(most - kept, interval, now),
        }
    }

    fn add(&mut self, bill: Bill, sent: Sent, now: Instant) {
        let (_, interval) = Self::limits(bill.network);
        self.all.add(sent.count(), interval, now);
        if !bill.is_guess || sent == Sent::Once {
            self.granted.add(sent.count(), interval, now);
        }
    }

    fn give_back(&mut self, owed: Self, now: Instant) {
        self.all.give_back(owed.all.owed(now));
        self.granted.give_back(owed.granted.owed(now));
    }
}

/// What an endpoint has sent in vain, and what it may send.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    toward: BTreeMap<Bill, Debt>,
    /// What was sent to networks of the SYNs that are reserved.
    reserved: BTreeMap<TargetNetwork, Debt>,
    total: Total,
    pruned_at: Option<Instant>,
}

impl Allowance {
    /// Takes one SYN of what is left, or of what is reserved for those who have wasted little;
    /// tells whether there was one.
    pub(super) fn take(
        &mut self,
        bill: Bill,
        purpose: Purpose,
        has_wasted_little: bool,
        now: Instant,
    ) -> bool {
        if self.takes(bill, purpose, now) {
            return true;
        }
        // In a network that only those inside can reach, a crowd would find out who is there.
        let is_outside = !bill.network.is_private;
        let is_reserved = has_wasted_little && purpose == Purpose::First && is_outside;
        is_reserved && self.takes_reserved(bill, now)
    }

    fn takes_reserved(&mut self, bill: Bill, now: Instant) -> bool {
        let total = self.total.of(bill.network);
        if !total.has_left(bill.network, Purpose::First, now) || !self.has_room(bill, now) {
            return false;
        }
        let reserved = self.reserved.entry(bill.network).or_default();
        if !reserved.is_below(RESERVED, RESERVED_INTERVAL, now) {
            return false;
        }
        reserved.add(1, RESERVED_INTERVAL, now);
        self.charge(bill, Sent::Once, now);
        true
    }

    fn takes(&mut self, bill: Bill, purpose: Purpose, now: Instant) -> bool {
        let most = match purpose {
            Purpose::First => NAMED,
            Purpose::Again => AGAIN,
            Purpose::Guess => GUESSED,
        };
        let total = self.total.of(bill.network);
        if !total.has_left(bill.network, purpose, now) {
            return false;
        }
        let debt = self.toward.get(&bill).copied().unwrap_or_default();
        if !debt.is_below(most, NETWORK_INTERVAL, now) || !self.has_room(bill, now) {
            return false;
        }
        self.charge(bill, Sent::Once, now);
        true
    }

    /// Charges for what has been sent in any case.
    pub(super) fn charge(&mut self, bill: Bill, sent: Sent, now: Instant) {
        self.total.of(bill.network).add(bill, sent, now);
        let debt = self.toward.entry(bill).or_default();
        debt.add(sent.count(), NETWORK_INTERVAL, now);
    }

    /// Gives back what was not sent in vain and is not paid off.
    pub(super) fn give_back(&mut self, bill: Bill, owed: Owed, now: Instant) {
        self.total.of(bill.network).give_back(owed.total, now);
        if let Some(debt) = self.toward.get_mut(&bill) {
            debt.give_back(owed.network.owed(now));
        }
    }

    fn has_room(&mut self, bill: Bill, now: Instant) -> bool {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < PRUNE_EVERY;
        if self.toward.len() >= MAX_NETWORKS && !self.pruned_at.is_some_and(is_recent) {
            self.pruned_at = Some(now);
            self.toward.retain(|_, debt| !debt.owed(now).is_zero());
            self.reserved.retain(|_, debt| !debt.owed(now).is_zero());
        }
        self.toward.len() < MAX_NETWORKS || self.toward.contains_key(&bill)
    }
}

#[cfg(test)]
mod tests;
