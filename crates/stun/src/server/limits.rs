use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{Shared, StunServerConfig};

/// Why a connection is not let in, or not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the server is full")]
    Full,
    #[error("the address has too many connections")]
    AddressFull,
    #[error("the address asks too often")]
    TooFast,
}

/// How long an answer may be held back. Less than the 5 s after which our client gives up; who is
/// so much too fast is not waiting for answers.
const MAX_DELAY: Duration = Duration::from_secs(4);

/// Connections and request rates by address.
#[derive(Debug)]
pub(super) struct Limits {
    max_connections: usize,
    max_per_address: usize,
    /// The time that one request costs in the long run.
    cost: Duration,
    /// How much of that time may be used up in advance.
    burst: Duration,
    connections: usize,
    addresses: BTreeMap<IpAddr, Address>,
}

#[derive(Debug)]
struct Address {
    connections: usize,
    /// When everything asked so far would be used up at the long-run rate (the theoretical
    /// arrival time of the generic cell rate algorithm).
    paid_until: Instant,
}

impl Limits {
    pub(super) fn new(config: &StunServerConfig) -> Self {
        let cost = Duration::from_secs(1) / config.requests_per_second.max(1);
        Self {
            max_connections: config.max_connections,
            max_per_address: config.max_connections_per_address,
            cost,
            burst: cost * config.request_burst,
            connections: 0,
            addresses: BTreeMap::new(),
        }
    }

    pub(super) const fn connections(&self) -> usize {
        self.connections
    }

    /// Counts a connection from `ip`, which also costs as much as a request.
    fn admit(&mut self, ip: IpAddr, now: Instant) -> Result<(), Refusal> {
        if self.connections >= self.max_connections {
            return Err(Refusal::Full);
        }
        self.forget_idle(now);
        let max_per_address = self.max_per_address;
        let key = key(ip);
        let connections = self.addresses.get(&key).map_or(0, |of| of.connections);
        if connections >= max_per_address {
            return Err(Refusal::AddressFull);
        }
        self.charge(ip, now)?;
        if let Some(address) = self.addresses.get_mut(&key) {
            address.connections += 1;
            self.connections += 1;
        }
        Ok(())
    }

    /// Returns how long to hold back the answer to a request from `ip`.
    pub(super) fn charge(&mut self, ip: IpAddr, now: Instant) -> Result<Duration, Refusal> {
        let address = self.addresses.entry(key(ip)).or_insert(Address {
            connections: 0,
            paid_until: now,
        });
        let paid_until = address.paid_until.max(now) + self.cost;
        let delay = paid_until
            .saturating_duration_since(now)
            .saturating_sub(self.burst);
        if delay > MAX_DELAY {
            return Err(Refusal::TooFast);
        }
        address.paid_until = paid_until;
        Ok(delay)
    }

    fn release(&mut self, ip: IpAddr, now: Instant) {
        let key = key(ip);
        if let Some(address) = self.addresses.get_mut(&key) {
            address.connections = address.connections.saturating_sub(1);
            self.connections = self.connections.saturating_sub(1);
            if address.connections == 0 && address.paid_until <= now {
                self.addresses.remove(&key);
            }
        }
    }

    /// Keeps the table from growing beyond twice the connections by addresses that only have a
    /// rate to remember. Their rate is forgotten early if there is no other way.
    fn forget_idle(&mut self, now: Instant) {
        if self.addresses.len() < self.max_connections.saturating_mul(2) {
            return;
        }
        self.addresses
            .retain(|_, address| address.connections > 0 || address.paid_until > now);
        if self.addresses.len() >= self.max_connections.saturating_mul(2) {
            self.addresses.retain(|_, address| address.connections > 0);
        }
    }
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Place {
    pub(super) fn take(shared: &Arc<Shared>, ip: IpAddr) -> Result<Self, Refusal> {
        shared.limits().admit(ip, Instant::now())?;
        Ok(Self {
            shared: Arc::clone(shared),
            ip,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.limits().release(self.ip, Instant::now());
    }
}

/// The part of an address that stands for one customer: whoever has one IPv6 address has its
/// whole /64.
fn key(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let prefix = u128::from(v6) & !u128::from(u64::MAX);
            Ipv6Addr::from(prefix).into()
        }
    }
}

#[cfg(test)]
mod tests;
