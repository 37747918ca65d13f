//! Where this host is: its own addresses, the networks that these are in, and the NAT64 in front of
//! it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use p2pconnect_host::{Host, Interface};
use p2pconnect_proto::{AddressScope, represented};

use crate::machine::{interfaces::Interfaces, nat64::Prefix};

/// A network with a shorter prefix than this is no network that a host is in, but a way of writing
/// "everything" (RFC 1918 has none above 10.0.0.0/8).
const MIN_IPV4_PREFIX: u8 = 8;

/// The same for IPv6: unique local addresses are /7 in all, and a site has a /48 (RFC 4193).
const MIN_IPV6_PREFIX: u8 = 32;

/// A network that this host has an address in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subnet {
    address: IpAddr,
    prefix: u8,
}

impl Subnet {
    fn contains(self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(other)) if self.prefix >= MIN_IPV4_PREFIX => {
                cut_v4(own, self.prefix) == cut_v4(other, self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) if self.prefix >= MIN_IPV6_PREFIX => {
                cut_v6(own, self.prefix) == cut_v6(other, self.prefix)
            }
            _ => false,
        }
    }
}

fn cut_v4(ip: Ipv4Addr, prefix: u8) -> u32 {
    let host_bits = 32 - u32::from(prefix.min(32));
    ip.to_bits().checked_shr(host_bits).unwrap_or(0)
}

fn cut_v6(ip: Ipv6Addr, prefix: u8) -> u128 {
    let host_bits = 128 - u32::from(prefix.min(128));
    ip.to_bits().checked_shr(host_bits).unwrap_or(0)
}

/// What tells whom an address leads to from this host.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    networks: Vec<Subnet>,
    /// The prefix of the NAT64, if this host has no other way to IPv4.
    nat64: Option<Prefix>,
    routes: Routes,
}

/// Who tells whether packets to an address stay on this host.
#[derive(Debug, Clone)]
enum Routes {
    OfHost(Host),
    #[cfg(test)]
    Told(fn(IpAddr) -> bool),
}

impl Routes {
    fn stay_here(&self, ip: IpAddr) -> bool {
        match self {
            Self::OfHost(host) => host.stays_here(ip),
            #[cfg(test)]
            Self::Told(told) => told(ip),
        }
    }
}

impl Surroundings {
    /// Returns those of a host with these interfaces, behind this NAT64.
    pub(crate) fn new(interfaces: &Interfaces, nat64: Option<Prefix>) -> Self {
        let network = |it: &Interface| Subnet {
            address: it.ip,
            prefix: it.prefix,
        };
        Self {
            networks: interfaces.iter().map(network).collect(),
            nat64,
            routes: Routes::OfHost(interfaces.host().clone()),
        }
    }

    /// Returns this host's own addresses.
    pub(crate) fn own(&self) -> impl Iterator<Item = IpAddr> {
        self.networks.iter().map(|it| it.address)
    }

    /// Tells whether an address leads to this host itself, by an interface's address or a route.
    pub(crate) fn is_own(&self, ip: IpAddr) -> bool {
        let (ip, node) = (ip.to_canonical(), self.node(ip));
        let is_here = |ip: IpAddr| self.own().any(|own| own == ip) || self.routes.stay_here(ip);
        is_here(ip) || (node != ip && is_here(node))
    }

    /// Tells whether an address is in a network that this host is in too.
    pub(crate) fn is_near(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|it| it.contains(ip))
    }

    /// Returns the address of the node that an address leads to from here.
    pub(crate) fn node(&self, ip: IpAddr) -> IpAddr {
        self.translated(ip).unwrap_or_else(|| represented(ip))
    }

    /// Returns where an address leads from here. What a NAT64 leads to beside public addresses is
    /// in its own networks, which nobody elsewhere can mean.
    pub(crate) fn scope(&self, ip: IpAddr) -> AddressScope {
        match self.translated(ip).map(AddressScope::of) {
            Some(AddressScope::Global) => AddressScope::Global,
            Some(_) => AddressScope::Nobody,
            None => AddressScope::of(ip),
        }
    }

    /// Returns the IPv4 address that the NAT64 leads an address to.
    fn translated(&self, ip: IpAddr) -> Option<IpAddr> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => self.nat64?.without(v6).map(IpAddr::from),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
impl Surroundings {
    /// Returns those of a host with these addresses, each with the length of its network's prefix.
    pub(crate) fn told(addresses: &[(&str, u8)]) -> Self {
        let network = |(address, prefix): &(&str, u8)| Subnet {
            address: address.parse().unwrap(),
            prefix: *prefix,
        };
        Self {
            networks: addresses.iter().map(network).collect(),
            nat64: None,
            routes: Routes::Told(|_| false),
        }
    }

    /// Has routes keep packets to some more addresses on the host.
    pub(crate) fn keeping(self, stays_here: fn(IpAddr) -> bool) -> Self {
        Self {
            routes: Routes::Told(stays_here),
            ..self
        }
    }

    /// Puts a NAT64 in front, by an address of the IPv4-only name (RFC 7050).
    pub(crate) fn behind(self, address: &str) -> Self {
        Self {
            nat64: Prefix::of(address.parse().unwrap()),
            ..self
        }
    }
}
