//! Which external endpoint a new mapping gets.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use p2pconnect_nat::{NatSpec, Pooling, PortAssignment, PortRange};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::table::Table;
use crate::packet::Protocol;

/// Chooses external endpoints.
#[derive(Debug, Clone)]
pub(super) struct PortAllocator {
    external: Vec<IpAddr>,
    random: ChaCha8Rng,
    /// Where sequential assignment goes on; drawn when first needed.
    next: Option<u16>,
    /// The internal host that has each block, by external address and number.
    blocks: BTreeMap<(IpAddr, u32), IpAddr>,
}

/// What asks for an external endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) protocol: Protocol,
    pub(super) internal: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl PortAllocator {
    pub(super) const fn new(external: Vec<IpAddr>, random: ChaCha8Rng) -> Self {
        Self {
            external,
            random,
            next: None,
            blocks: BTreeMap::new(),
        }
    }

    /// Returns the addresses that endpoints are chosen from, of both families.
    pub(super) fn external(&self) -> &[IpAddr] {
        &self.external
    }

    /// Forgets all but the randomness, and takes other addresses if given.
    pub(super) fn reboot(&mut self, external: Option<Vec<IpAddr>>) {
        self.external = external.unwrap_or_else(|| std::mem::take(&mut self.external));
        self.next = None;
        self.blocks.clear();
    }

    /// Returns an external endpoint for a new mapping, or `None` if none is left.
    pub(super) fn allocate(
        &mut self,
        request: Request,
        spec: &NatSpec,
        table: &Table,
    ) -> Option<SocketAddr> {
        let address = self.address(request.internal.ip(), spec.pooling)?;
        let range = spec.port_range;
        let endpoint = |port| SocketAddr::new(address, port);
        let is_free = |port: u16| !table.is_taken(request.protocol, endpoint(port));
        let own = request.internal.port();
        let port = match spec.ports {
            PortAssignment::Preserved if own != 0 && is_free(own) => Some(own),
            PortAssignment::PreservedWithOverload
                if own != 0 && !clashes(request, endpoint(own), table) =>
            {
                Some(own)
            }
            PortAssignment::Preserved
            | PortAssignment::PreservedWithOverload
            | PortAssignment::Random => self.random(range, is_free),
            PortAssignment::Sequential { delta } => self.sequential(range, delta, is_free),
            PortAssignment::RandomInBlock { size } => {
                let block = self.block(address, request.internal.ip(), range, size)?;
                self.random(block, is_free)
            }
        };
        port.map(endpoint)
    }

    fn address(&mut self, host: IpAddr, pooling: Pooling) -> Option<IpAddr> {
        let pool = self.external.iter();
        let mut pool = pool.filter(|address| address.is_ipv4() == host.is_ipv4());
        let count = u32::try_from(pool.clone().count()).ok()?;
        let index = match pooling {
            _ if count == 0 => return None,
            // By the address, so that nothing need be remembered (RFC 7422 section 2).
            Pooling::Paired => number(host) % count,
            Pooling::Arbitrary => self.random.random_range(0..count),
        };
        pool.nth(index as usize).copied()
    }

    /// Returns the first free port behind a random one.
    fn random(&mut self, range: PortRange, is_free: impl Fn(u16) -> bool) -> Option<u16> {
        let start = self.random.random_range(range.first..=range.last);
        (start..=range.last)
            .chain(range.first..start)
            .find(|port| is_free(*port))
    }

    fn sequential(
        &mut self,
        range: PortRange,
        delta: u16,
        is_free: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let mut port = match self.next {
            Some(port) => port,
            None => self.random.random_range(range.first..=range.last),
        };
        for _ in 0..range.count() {
            let candidate = port;
            let offset = u32::from(port - range.first) + u32::from(delta);
            // Less than the number of ports, so within the range.
            port = range.first + (offset % range.count()) as u16;
            if is_free(candidate) {
                self.next = Some(port);
                return Some(candidate);
            }
        }
        None
    }

    /// Returns a host's block of ports, which it keeps until a reboot.
    fn block(
        &mut self,
        address: IpAddr,
        host: IpAddr,
        range: PortRange,
        size: u16,
    ) -> Option<PortRange> {
        let count = range.count() / u32::from(size);
        let start = number(host) % count;
        // Neighbours get neighbouring blocks; a host whose block another has gets the next that is
        // free.
        let index = (start..count).chain(0..start).find(|index| {
            let owner = self.blocks.get(&(address, *index));
            owner.is_none_or(|owner| *owner == host)
        })?;
        self.blocks.insert((address, index), host);
        // Blocks lie within the range.
        let first = range.first + (index * u32::from(size)) as u16;
        let last = first + (size - 1);
        Some(PortRange { first, last })
    }
}

/// Returns whether another mapping with an external endpoint has a session with the same remote
/// endpoint, so that answers could not be told apart.
fn clashes(request: Request, external: SocketAddr, table: &Table) -> bool {
    table
        .at_external(request.protocol, external)
        .any(|(_, mapping)| mapping.session(request.remote).is_some())
}

/// Returns the low bits of an address, in which hosts of one network differ.
fn number(host: IpAddr) -> u32 {
    match host {
        IpAddr::V4(address) => address.to_bits(),
        // The low half is the half that is kept.
        IpAddr::V6(address) => address.to_bits() as u32,
    }
}
