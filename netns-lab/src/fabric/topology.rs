//! The places of a world and the ways between them.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use p2pconnect_nat::SpecError;

use crate::{
    link::{Link, LinkError, LinkSpec},
    middlebox::{Middlebox, Side},
};

/// A host or a box of a fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(super) usize);

/// A host of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub(crate) NodeId);

impl HostId {
    /// Returns a number that no other host of its world has.
    ///
    /// The same calls make the same numbers, so that programs may draw their randomness
    /// by them.
    pub const fn number(self) -> u64 {
        self.0.0 as u64
    }
}

/// A middlebox of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoxId(pub(crate) NodeId);

/// Where a host or a middlebox is attached, and by what link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Uplink {
    parent: Option<BoxId>,
    link: LinkSpec,
}

impl Uplink {
    /// Returns a link to the core.
    pub const fn core(link: LinkSpec) -> Self {
        Self { parent: None, link }
    }

    /// Returns a link without delay to a middlebox's inside.
    pub const fn behind(middlebox: BoxId) -> Self {
        Self {
            parent: Some(middlebox),
            link: LinkSpec::delay(Duration::ZERO),
        }
    }

    /// Tells whether the link can be built.
    pub(super) fn check(self) -> Result<(), LinkError> {
        self.link.check()
    }

    /// Gives the link another behaviour.
    #[must_use]
    pub const fn link(mut self, link: LinkSpec) -> Self {
        self.link = link;
        self
    }
}

/// Why a host or a middlebox cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// Somebody else would be reached by it.
    #[error("{0} is already somewhere else")]
    AddressInUse(Network),
    /// The link cannot be built as described.
    #[error("the link cannot be built: {0}")]
    InvalidLink(#[from] LinkError),
    /// The box cannot be built as described.
    #[error("the box cannot be built: {0}")]
    InvalidNat(#[from] SpecError),
    /// There is no such place in this world.
    #[error("there is no such host or box in this world")]
    UnknownPlace,
}

/// The addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// Returns the addresses that share their first `length` bits with `address`.
    pub const fn new(address: IpAddr, length: u8) -> Self {
        Self { address, length }
    }

    /// Returns the address and the number of bits.
    pub(crate) const fn parts(self) -> (IpAddr, u8) {
        (self.address, self.length)
    }

    /// Returns whether an address is one of them.
    pub(super) fn contains(self, address: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (ours.to_bits().into(), theirs.to_bits().into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits(), theirs.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let different: u128 = ours ^ theirs;
        let free = u32::saturating_sub(width, self.length.into());
        different.checked_shr(free).unwrap_or(0) == 0
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The address families in which the outside does not know what is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hides {
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
}

impl Hides {
    /// As if there were nothing inside.
    pub(crate) const ALL: Self = Self {
        ipv4: true,
        ipv6: true,
    };

    /// Returns the families of which there is an address.
    pub(crate) fn families_of(networks: &[Network]) -> Self {
        let any = |ipv4| {
            let of_family = |network: &Network| network.address.is_ipv4() == ipv4;
            networks.iter().any(of_family)
        };
        Self {
            ipv4: any(true),
            ipv6: any(false),
        }
    }
}

/// A routing table; the longest match counts.
#[derive(Debug, Default)]
pub(super) struct Routes {
    entries: Vec<(Network, usize)>,
}

impl Routes {
    pub(super) fn add(&mut self, network: Network, to: usize) {
        self.entries.push((network, to));
    }

    pub(super) fn remove(&mut self, network: Network) {
        self.entries.retain(|(known, _)| *known != network);
    }

    pub(super) fn contains(&self, network: Network) -> bool {
        self.entries.iter().any(|(known, _)| *known == network)
    }

    pub(super) fn networks(&self) -> impl Iterator<Item = Network> {
        self.entries.iter().map(|(network, _)| *network)
    }

    pub(super) fn get(&self, address: IpAddr) -> Option<usize> {
        self.entries
            .iter()
            .filter(|(network, _)| network.contains(address))
            .max_by_key(|(network, _)| network.length)
            .map(|(_, to)| *to)
    }
}

/// A host or a middlebox with the link above it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: Arc<str>,
    pub(super) place: Place,
    /// The middlebox above it, or the core.
    pub(super) parent: Option<usize>,
    /// When it will be looked at.
    pub(super) timer: Option<Duration>,
    /// Its own addresses.
    pub(super) networks: Vec<Network>,
    up: Link,
    down: Link,
}

#[derive(Debug)]
pub(super) enum Place {
    Host,
    Box(Inner),
}

/// A middlebox and what the world knows about it.
#[derive(Debug)]
pub(super) struct Inner {
    /// Without it, the fabric's owner does the work of the box.
    pub(super) middlebox: Option<Box<dyn Middlebox>>,
    /// What is inside, and which way.
    pub(super) routes: Routes,
    hides: Hides,
}

impl Node {
    pub(super) fn new(
        name: &str,
        place: Place,
        networks: &[Network],
        uplink: Uplink,
        [up, down]: [u64; 2],
    ) -> Self {
        Self {
            name: name.into(),
            place,
            parent: uplink.parent.map(|BoxId(NodeId(id))| id),
            timer: None,
            networks: networks.to_vec(),
            up: Link::new(uplink.link, up),
            down: Link::new(uplink.link, down),
        }
    }

    /// Returns the direction of the link above the node that ends at a side.
    pub(super) fn link(&mut self, towards: Side) -> &mut Link {
        match towards {
            Side::External => &mut self.up,
            Side::Internal => &mut self.down,
        }
    }
}

impl Place {
    pub(super) fn middlebox(middlebox: Option<Box<dyn Middlebox>>, hides: Hides) -> Self {
        Self::Box(Inner {
            middlebox,
            routes: Routes::default(),
            hides,
        })
    }

    /// Returns whether what is inside is not reachable by this from outside.
    pub(super) fn hides(&self, network: Network) -> bool {
        match self {
            Self::Host => true,
            Self::Box(inner) if network.address.is_ipv4() => inner.hides.ipv4,
            Self::Box(inner) => inner.hides.ipv6,
        }
    }
}
