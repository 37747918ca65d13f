//! The description of a lab, the same for both grounds: hosts, the boxes in front of them, links
//! and gates. Pure.

mod places;
mod plan;

use std::{collections::BTreeSet, net::Ipv4Addr};

use p2pconnect_nat::NatSpec;

use crate::{error::Error, fabric::Gate, link::LinkSpec};

pub(crate) use plan::{Plan, Planned, PlannedNode};

/// Hosts are numbered in one octet of their addresses, below the shared boxes.
const MAX_HOSTS: usize = 150;

/// The external addresses of shared boxes are what is left of the octet.
const MAX_SHARED_ADDRESSES: usize = 100;

/// More boxes in a row than anyone has met.
const MAX_LAYERS: usize = 8;

/// A host, the boxes in front of it and its access link.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSpec {
    pub(crate) name: String,
    pub(crate) link: LinkSpec,
    pub(crate) nats: Vec<NatSpec>,
    pub(crate) shared: Option<String>,
    pub(crate) external_ipv4: Option<Ipv4Addr>,
    pub(crate) second_ipv4: Option<Ipv4Addr>,
}

/// A NAT or firewall that several hosts are behind.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxSpec {
    pub(crate) name: String,
    pub(crate) nat: NatSpec,
    pub(crate) link: LinkSpec,
    pub(crate) shared: Option<String>,
    pub(crate) addresses: u8,
}

/// Hosts, shared boxes, links and gates, in the words of both grounds.
///
/// ```
/// use std::time::Duration;
/// use netns_lab::{BoxSpec, HostSpec, LinkSpec, NatSpec, Topology};
///
/// let link = LinkSpec::delay(Duration::from_millis(20));
/// let topology = Topology::new()
///     .shared_box(BoxSpec::new("cgn", NatSpec::random_port()).link(link))
///     .host(HostSpec::new("server"))
///     .host(HostSpec::new("a").behind(NatSpec::port_preserving()).behind_shared("cgn"))
///     .host(HostSpec::new("b").behind_shared("cgn"));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Topology {
    pub(crate) hosts: Vec<HostSpec>,
    pub(crate) boxes: Vec<BoxSpec>,
    pub(crate) gates: Vec<Gate>,
}

impl HostSpec {
    /// Describes a host with public addresses and a link without delay.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            link: LinkSpec::default(),
            nats: Vec::new(),
            shared: None,
            external_ipv4: None,
            second_ipv4: None,
        }
    }

    /// Puts a NAT or firewall of its own in front of the host, and of those named so far. They are
    /// called `<host>.nat`, `<host>.nat2` and so on.
    #[must_use]
    pub fn behind(mut self, nat: NatSpec) -> Self {
        self.nats.push(nat);
        self
    }

    /// Puts several NATs or firewalls of its own in front of the host, the innermost first.
    #[must_use]
    pub fn behind_all(mut self, nats: &[NatSpec]) -> Self {
        self.nats.extend(nats);
        self
    }

    /// Puts the host with its own boxes behind a shared one.
    #[must_use]
    pub fn behind_shared(mut self, name: impl Into<String>) -> Self {
        self.shared = Some(name.into());
        self
    }

    /// Gives the host, or the outermost NAT of its own, another public IPv4 address than the lab's
    /// usual one, which is for documentation: some programs do not take those for public. Behind a
    /// shared NAT it means nothing.
    #[must_use]
    pub const fn external_ipv4(mut self, address: Ipv4Addr) -> Self {
        self.external_ipv4 = Some(address);
        self
    }

    /// Gives the host a second IPv4 address on its own link, behind the first one: for a server
    /// that shows clients how their NATs treat another destination (RFC 5780). Without NATs in
    /// front of the host only.
    #[must_use]
    pub const fn second_ipv4(mut self, address: Ipv4Addr) -> Self {
        self.second_ipv4 = Some(address);
        self
    }

    /// Sets the behaviour of the access link: the one between the outermost box of the host's own,
    /// or the host, and the core or the shared box.
    #[must_use]
    pub const fn link(mut self, link: LinkSpec) -> Self {
        self.link = link;
        self
    }
}

impl BoxSpec {
    /// Describes a box between the core and whatever names it, with one external address and a link
    /// without delay.
    pub fn new(name: impl Into<String>, nat: NatSpec) -> Self {
        Self {
            name: name.into(),
            nat,
            link: LinkSpec::default(),
            shared: None,
            addresses: 1,
        }
    }

    /// Sets the behaviour of the link towards the core.
    #[must_use]
    pub const fn link(mut self, link: LinkSpec) -> Self {
        self.link = link;
        self
    }

    /// Puts the box behind another shared one, which must be described before it.
    #[must_use]
    pub fn behind_shared(mut self, name: impl Into<String>) -> Self {
        self.shared = Some(name.into());
        self
    }

    /// Sets how many external IPv4 addresses the box has.
    #[must_use]
    pub const fn addresses(mut self, count: u8) -> Self {
        self.addresses = count;
        self
    }
}

impl Topology {
    /// Describes an empty network.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a host.
    #[must_use]
    pub fn host(mut self, host: HostSpec) -> Self {
        self.hosts.push(host);
        self
    }

    /// Adds a box that hosts can share.
    #[must_use]
    pub fn shared_box(mut self, shared: BoxSpec) -> Self {
        self.boxes.push(shared);
        self
    }

    /// Adds a gate, which holds packets back until it has seen another one.
    #[must_use]
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gates.push(gate);
        self
    }

    /// Returns what is wrong with the description, if anything.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_sizes()?;
        let mut names = BTreeSet::from([crate::fabric::CORE]);
        let mut known = BTreeSet::new();
        for shared in &self.boxes {
            let above = shared.shared.as_deref();
            self.check_place(&shared.name, above, &mut names, &known)?;
            known.insert(shared.name.as_str());
        }
        for host in &self.hosts {
            self.check_place(&host.name, host.shared.as_deref(), &mut names, &known)?;
            if host.nats.len() > MAX_LAYERS {
                return Err(Error::TooManyLayers {
                    name: host.name.clone(),
                    wanted: host.nats.len(),
                    limit: MAX_LAYERS,
                });
            }
        }
        let boxes = self.boxes.iter().map(|shared| (&shared.name, shared.link));
        let hosts = self.hosts.iter().map(|host| (&host.name, host.link));
        for (name, link) in boxes.chain(hosts) {
            let name = name.clone();
            link.check()
                .map_err(|source| Error::InvalidLink { name, source })?;
        }
        for (name, nat) in self.nats() {
            let name = name.to_owned();
            nat.check()
                .map_err(|source| Error::InvalidNat { name, source })?;
        }
        Ok(())
    }

    /// Returns all boxes with the names of those that they were described with.
    pub(crate) fn nats(&self) -> impl Iterator<Item = (&str, &NatSpec)> {
        let shared = self.boxes.iter().map(|shared| (&*shared.name, &shared.nat));
        let own = self.hosts.iter().flat_map(|host| {
            let name = &*host.name;
            host.nats.iter().map(move |nat| (name, nat))
        });
        shared.chain(own)
    }

    fn check_sizes(&self) -> Result<(), Error> {
        let addresses: usize = self.boxes.iter().map(|b| usize::from(b.addresses)).sum();
        if self.hosts.len() > MAX_HOSTS {
            return Err(Error::TooManyHosts {
                wanted: self.hosts.len(),
                limit: MAX_HOSTS,
            });
        }
        if addresses > MAX_SHARED_ADDRESSES {
            return Err(Error::TooManyAddresses {
                wanted: addresses,
                limit: MAX_SHARED_ADDRESSES,
            });
        }
        Ok(())
    }

    fn check_place<'a>(
        &'a self,
        name: &'a str,
        above: Option<&str>,
        names: &mut BTreeSet<&'a str>,
        known: &BTreeSet<&str>,
    ) -> Result<(), Error> {
        let is_word = !name.is_empty() && !name.contains(char::is_whitespace);
        if !is_word {
            return Err(Error::InvalidName { name: name.into() });
        }
        if !names.insert(name) {
            return Err(Error::DuplicateName { name: name.into() });
        }
        match above {
            Some(above) if !known.contains(above) => Err(Error::UnknownBox {
                name: name.into(),
                above: above.into(),
            }),
            Some(_) | None => Ok(()),
        }
    }
}
