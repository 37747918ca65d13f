//! Who gets the slots and the answers of a server: shares for each network, so that nobody can take
//! what all others need.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{Shared, StunServerConfig};
use network::Network;
use rate::Rate;

pub(super) mod datagrams;
mod network;
mod rate;

/// Why a connection is not let in, or not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the server is full")]
    Full,
    #[error("the network has too many connections")]
    NetworkFull,
    #[error("the network asks too often")]
    TooFast,
}

/// How long an answer may be held back. Less than the 5 s after which our client gives up; who is
/// so much too fast is not waiting for answers.
const MAX_DELAY: Duration = Duration::from_secs(4);

/// How long a connection was quiet that makes room for another one of its own network: four times
/// the interval of a client that is alive, so that none of these goes.
const QUIET: Duration = Duration::from_secs(60);

/// How many addresses' worth an IPv6 /48 gets: it is one site, but may be a large one, and whoever
/// has one has 65,536 times /64.
const SITE_SHARES: u32 = 4;

/// Which part of the connections back that are left a network may have taken and still take another
/// one. A hundred clients behind one address that start at the same moment are served by default,
/// and no number of greedy networks takes what is left from one that has none.
const BACK_SHARE: usize = 4;

/// Connections and request rates by network.
#[derive(Debug)]
pub(super) struct Limits {
    max_connections: usize,
    max_per_address: usize,
    max_backs: usize,
    rate: Rate,
    next: u64,
    connections: BTreeMap<u64, Connection>,
    networks: BTreeMap<Network, Usage>,
    /// The sites that have connections, the one with the most at the end.
    sites: BTreeSet<(usize, Network)>,
    backs: usize,
}

#[derive(Debug)]
struct Connection {
    ip: IpAddr,
    /// When it was opened, or something whole came over it.
    heard: Instant,
    /// Dropping it ends the connection.
    _end: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Usage {
    /// The connections, the quietest first.
    connections: BTreeSet<(Instant, u64)>,
    backs: usize,
    /// When everything asked so far would be used up at the long-run rate.
    paid_until: Instant,
}

impl Usage {
    fn is_forgettable(&self, now: Instant) -> bool {
        self.is_unused() && self.paid_until <= now
    }

    fn is_unused(&self) -> bool {
        self.connections.is_empty() && self.backs == 0
    }
}

/// A connection that was let in.
#[derive(Debug)]
struct Admitted {
    id: u64,
    /// Ends when the connection has to make room for another one.
    end: oneshot::Receiver<()>,
}

impl Limits {
    pub(super) fn new(config: &StunServerConfig) -> Self {
        Self {
            max_connections: config.max_connections,
            max_per_address: config.max_connections_per_address,
            max_backs: config.max_connect_backs,
            rate: Rate::new(config.requests_per_second, config.request_burst),
            next: 0,
            connections: BTreeMap::new(),
            networks: BTreeMap::new(),
            sites: BTreeSet::new(),
            backs: 0,
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Counts a connection from `ip`, which also costs as much as a request. If there is no room,
    /// the quietest connection of the network that has the most makes way.
    fn admit(&mut self, ip: IpAddr, now: Instant) -> Result<Admitted, Refusal> {
        self.forget_idle(now);
        let networks = Network::all_of(ip);
        let leaving = self.who_makes_room(&networks, now)?;
        self.charge(ip, now)?;
        if let Some(id) = leaving {
            self.release(id, now);
        }
        let id = self.next;
        self.next += 1;
        for network in networks {
            let usage = self.usage(network, now);
            usage.connections.insert((now, id));
            self.count_site(network);
        }
        let (sender, end) = oneshot::channel();
        let connection = Connection {
            ip,
            heard: now,
            _end: sender,
        };
        self.connections.insert(id, connection);
        Ok(Admitted { id, end })
    }

    /// Returns which connection has to go for one more of these networks, if one has to.
    fn who_makes_room(&self, networks: &[Network], now: Instant) -> Result<Option<u64>, Refusal> {
        let held = |network| {
            self.networks
                .get(network)
                .map_or(0, |it| it.connections.len())
        };
        let quiet = |network| {
            let (heard, id) = *self.networks.get(network)?.connections.first()?;
            (now.saturating_duration_since(heard) >= QUIET).then_some(id)
        };
        for network in networks {
            let most = self
                .max_per_address
                .saturating_mul(network.shares() as usize);
            if held(network) >= most {
                return quiet(network).map(Some).ok_or(Refusal::NetworkFull);
            }
        }
        if self.connections.len() < self.max_connections {
            return Ok(None);
        }
        let own = networks.iter().find(|it| it.is_site());
        let (most, fullest) = self.sites.last().ok_or(Refusal::Full)?;
        let leaving = if *most > own.map_or(0, held) + 1 {
            let usage = self.networks.get(fullest);
            usage.and_then(|it| it.connections.first()).map(|it| it.1)
        } else {
            own.and_then(quiet)
        };
        leaving.map(Some).ok_or(Refusal::Full)
    }

    /// Returns how long to hold back the answer to a request from `ip`.
    pub(super) fn charge(&mut self, ip: IpAddr, now: Instant) -> Result<Duration, Refusal> {
        let networks = Network::all_of(ip);
        let rate = self.rate;
        let delays = networks
            .iter()
            .map(|it| rate.delay(self.usage(*it, now).paid_until, *it, now));
        let longest = delays.max().unwrap_or_default();
        if longest > MAX_DELAY {
            return Err(Refusal::TooFast);
        }
        for network in networks {
            rate.pay(&mut self.usage(network, now).paid_until, network, now);
        }
        Ok(longest)
    }

    /// Notes that something whole came over a connection.
    fn heard(&mut self, id: u64, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut connection.heard, now);
        for network in Network::all_of(connection.ip) {
            if let Some(usage) = self.networks.get_mut(&network) {
                usage.connections.remove(&(before, id));
                usage.connections.insert((now, id));
            }
        }
    }

    /// Forgets a connection; one that had to make room has been forgotten already.
    fn release(&mut self, id: u64, now: Instant) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        for network in Network::all_of(connection.ip) {
            let Some(usage) = self.networks.get_mut(&network) else {
                continue;
            };
            usage.connections.remove(&(connection.heard, id));
            let count = usage.connections.len();
            if usage.is_forgettable(now) {
                self.networks.remove(&network);
            }
            self.sites.remove(&(count + 1, network));
            if network.is_site() && count > 0 {
                self.sites.insert((count, network));
            }
        }
    }

    /// Sorts a site in anew after it got one more connection.
    fn count_site(&mut self, network: Network) {
        let held = self.networks.get(&network);
        let count = held.map_or(0, |it| it.connections.len());
        if network.is_site() && count > 0 {
            self.sites.remove(&(count - 1, network));
            self.sites.insert((count, network));
        }
    }

    /// Counts a connection back to `ip`, and tells whether there is room for it.
    fn admit_back(&mut self, ip: IpAddr, now: Instant) -> bool {
        let left = self.max_backs.saturating_sub(self.backs);
        let Some(site) = Network::all_of(ip).into_iter().find(|it| it.is_site()) else {
            return false;
        };
        let usage = self.usage(site, now);
        let is_fair = usage.backs == 0 || usage.backs < left / BACK_SHARE;
        let is_room = left > 0 && is_fair;
        if is_room {
            usage.backs += 1;
            self.backs += 1;
        }
        is_room
    }

    fn release_back(&mut self, ip: IpAddr) {
        let site = Network::all_of(ip).into_iter().find(|it| it.is_site());
        if let Some(usage) = site.and_then(|it| self.networks.get_mut(&it)) {
            usage.backs = usage.backs.saturating_sub(1);
            self.backs = self.backs.saturating_sub(1);
        }
    }

    fn usage(&mut self, network: Network, now: Instant) -> &mut Usage {
        self.networks.entry(network).or_insert_with(|| Usage {
            connections: BTreeSet::new(),
            backs: 0,
            paid_until: now,
        })
    }

    /// Keeps the table from growing beyond twice the connections by networks that only have a
    /// rate to remember. Their rate is forgotten early if there is no other way.
    fn forget_idle(&mut self, now: Instant) {
        let most = self.max_connections.saturating_mul(2);
        if self.networks.len() < most {
            return;
        }
        self.networks.retain(|_, usage| !usage.is_forgettable(now));
        if self.networks.len() >= most {
            self.networks.retain(|_, usage| !usage.is_unused());
        }
    }
}

/// The slot of a connection, and what ends when the connection has to make room for another one.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) slot: Slot,
    pub(super) end: oneshot::Receiver<()>,
}

impl Held {
    /// Takes a slot for a connection from `ip`.
    pub(super) fn take(shared: &Arc<Shared>, ip: IpAddr) -> Result<Self, Refusal> {
        let Admitted { id, end } = shared.limits().admit(ip, Instant::now())?;
        let shared = Arc::clone(shared);
        Ok(Self {
            slot: Slot { shared, id },
            end,
        })
    }
}

/// A slot among the connections, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    shared: Arc<Shared>,
    id: u64,
}

impl Slot {
    /// Notes that something whole came.
    pub(super) fn heard(&self) {
        self.shared.limits().heard(self.id, Instant::now());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.limits().release(self.id, Instant::now());
    }
}

/// A slot among the connections back, given back when dropped.
#[derive(Debug)]
pub(super) struct BackSlot<'a> {
    shared: &'a Shared,
    ip: IpAddr,
}

impl<'a> BackSlot<'a> {
    pub(super) fn take(shared: &'a Shared, ip: IpAddr) -> Option<Self> {
        let is_room = shared.limits().admit_back(ip, Instant::now());
        is_room.then_some(Self { shared, ip })
    }
}

impl Drop for BackSlot<'_> {
    fn drop(&mut self) {
        self.shared.limits().release_back(self.ip);
    }
}

#[cfg(test)]
mod tests;
