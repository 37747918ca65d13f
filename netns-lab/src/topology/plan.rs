//! The address plan. Pure: from a description to places with addresses.
//!
//! Host number n, in the order of description, has
//! - 203.0.113.n as public address, its own or that of the outermost of its NATs;
//! - 192.168.n.2 behind a NAT of its own, and 10.n.m.2 for the boxes behind boxes;
//! - 10.n.200.2 for what of it is first behind a shared NAT;
//! - 198.51.100.n for a box of its own that translates nothing;
//! - 2001:db8:n::2, unless a box translates IPv6; behind NAT66, fd00:0:n::2.
//!
//! Shared boxes have addresses from 203.0.113.151 on, one after the other, or 10.151.n.2 and on
//! behind another one, and 2001:db8:1000+n::1.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use p2pconnect_nat::{NatSpec, Translation, Translation6};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{BoxSpec, HostSpec, Topology};
use crate::{
    error::Error,
    fabric::{BoxId, Fabric, Gate, Hides, Network, NodeId, Uplink},
    link::LinkSpec,
    middlebox::{Middlebox, SharedModel},
    model::NatModel,
};

/// The first of the last octets of shared boxes.
const FIRST_SHARED: u8 = 151;

/// All places of a lab; what is above another comes before it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<PlannedNode>,
}

/// A host or a box.
#[derive(Debug, Clone)]
pub(crate) struct PlannedNode {
    pub(crate) name: Arc<str>,
    /// The host whose own it is; for a shared box, its own name.
    pub(crate) owner: Arc<str>,
    pub(crate) kind: Planned,
    /// The place of the box above it in the list.
    pub(crate) parent: Option<usize>,
    pub(crate) link: LinkSpec,
    /// The addresses on the link above it: one IPv4 address or more, and one IPv6 address.
    pub(crate) addresses: Vec<IpAddr>,
    /// Of all that it draws at random.
    pub(crate) seed: u64,
}

/// What a place is.
#[derive(Debug, Clone)]
pub(crate) enum Planned {
    Host,
    Box(NatSpec),
}

impl PlannedNode {
    /// Returns the first IPv4 address.
    pub(crate) fn ipv4(&self) -> Ipv4Addr {
        let v4 = |address: &IpAddr| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        };
        let first = self.addresses.iter().find_map(v4);
        first.unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// Returns the IPv6 address.
    pub(crate) fn ipv6(&self) -> Ipv6Addr {
        let v6 = |address: &IpAddr| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        };
        let first = self.addresses.iter().find_map(v6);
        first.unwrap_or(Ipv6Addr::UNSPECIFIED)
    }

    /// Returns the addresses that the box translates to.
    pub(crate) fn external(&self) -> Vec<IpAddr> {
        let (ipv4, ipv6) = match &self.kind {
            Planned::Host => (false, false),
            Planned::Box(nat) => (
                nat.translation == Translation::Nat44,
                nat.translation6 == Translation6::Nat66,
            ),
        };
        let used = |address: &&IpAddr| if address.is_ipv4() { ipv4 } else { ipv6 };
        self.addresses.iter().filter(used).copied().collect()
    }

    /// Returns what the outside knows the node by.
    pub(crate) fn networks(&self) -> Vec<Network> {
        let addresses = self.addresses.iter();
        let mut networks: Vec<_> = addresses.map(|&address| address.into()).collect();
        if let Planned::Box(nat) = &self.kind
            && let Translation6::Nptv6(pair) = nat.translation6
        {
            networks.push(Network::new(pair.external.into(), pair.length));
        }
        networks
    }

    /// Returns in which families the outside does not know what is inside.
    pub(crate) fn hides(&self) -> Hides {
        match &self.kind {
            Planned::Host => Hides::ALL,
            Planned::Box(nat) => Hides {
                ipv4: nat.translation != Translation::None,
                ipv6: nat.translation6 != Translation6::None,
            },
        }
    }
}

impl Plan {
    /// Plans a lab; the description has been checked.
    pub(crate) fn new(topology: &Topology, seed: u64) -> Self {
        let mut planner = Planner {
            nodes: Vec::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
            next_shared: FIRST_SHARED,
        };
        for (number, shared) in (1..).zip(&topology.boxes) {
            planner.add_shared(number, shared);
        }
        for (number, host) in (1..).zip(&topology.hosts) {
            planner.add_host(number, host);
        }
        Self {
            nodes: planner.nodes,
        }
    }

    /// Returns the boxes in front of a node, innermost first.
    pub(crate) fn above(&self, node: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.nodes[node].parent, |&node| self.nodes[node].parent)
    }

    /// Returns the first IPv4 address that the core knows a node by.
    pub(crate) fn external_ipv4(&self, node: usize) -> Ipv4Addr {
        let hiding = self
            .above(node)
            .filter(|&above| self.nodes[above].hides().ipv4);
        self.nodes[hiding.last().unwrap_or(node)].ipv4()
    }
}

impl Plan {
    /// Makes the places of the plan; those boxes for which `middlebox` returns nothing are left to
    /// the owner. The numbers of the nodes are their places in the plan.
    pub(crate) fn fabric(
        &self,
        seed: u64,
        capacity: usize,
        gates: &[Gate],
        mut middlebox: impl FnMut(&PlannedNode, NatSpec) -> Result<Option<Box<dyn Middlebox>>, Error>,
    ) -> Result<(Fabric, Vec<NodeId>), Error> {
        let mut fabric = Fabric::new(seed, capacity);
        let mut ids: Vec<NodeId> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let uplink = match node.parent {
                Some(parent) => Uplink::behind(BoxId(ids[parent])),
                None => Uplink::core(node.link),
            };
            let uplink = uplink.link(node.link);
            ids.push(match &node.kind {
                Planned::Host => fabric.add_host(&node.name, &node.addresses, uplink)?,
                Planned::Box(nat) => {
                    let middlebox = middlebox(node, *nat)?;
                    fabric.add_box(
                        &node.name,
                        middlebox,
                        &node.networks(),
                        node.hides(),
                        uplink,
                    )?
                }
            });
        }
        for gate in gates {
            fabric.add_gate(gate)?;
        }
        Ok((fabric, ids))
    }
}

impl PlannedNode {
    /// Makes the model of a box.
    pub(crate) fn model(&self, nat: NatSpec) -> Result<SharedModel, Error> {
        let model = NatModel::new(nat, self.external(), self.seed);
        let name = self.name.to_string();
        model
            .map(SharedModel::new)
            .map_err(|source| Error::InvalidNat { name, source })
    }
}

struct Planner {
    nodes: Vec<PlannedNode>,
    random: ChaCha8Rng,
    next_shared: u8,
}

impl Planner {
    fn add_shared(&mut self, number: u8, shared: &BoxSpec) {
        let parent = self.place_of(shared.shared.as_deref());
        let is_public = self.hiding(parent, |hides| hides.ipv4).is_none();
        let mut addresses: Vec<IpAddr> = Vec::new();
        for count in 0..shared.addresses.max(1) {
            addresses.push(if is_public {
                self.next_shared += 1;
                Ipv4Addr::new(203, 0, 113, self.next_shared - 1).into()
            } else {
                Ipv4Addr::new(10, FIRST_SHARED, number, 2 + count).into()
            });
        }
        let ipv6 = Ipv6Addr::new(0x2001, 0xdb8, 0x1000 + u16::from(number), 0, 0, 0, 0, 1);
        addresses.push(self.inside_ipv6(parent, ipv6));
        let name: Arc<str> = shared.name.as_str().into();
        self.nodes.push(PlannedNode {
            name: Arc::clone(&name),
            owner: name,
            kind: Planned::Box(shared.nat),
            parent,
            link: shared.link,
            addresses,
            seed: self.random.next_u64(),
        });
    }

    fn add_host(&mut self, number: u8, host: &HostSpec) {
        let owner: Arc<str> = host.name.as_str().into();
        let mut parent = self.place_of(host.shared.as_deref());
        let mut link = host.link;
        // The checks have limited the layers to what fits an octet.
        for (layer, nat) in (1..=host.nats.len() as u8).zip(&host.nats).rev() {
            let name = match layer {
                1 => format!("{owner}.nat"),
                _ => format!("{owner}.nat{layer}"),
            };
            let ipv4 = if nat.translation == Translation::None {
                self.firewall_ipv4(number, layer, parent)
            } else {
                self.own_ipv4(host, number, layer, parent)
            };
            let ipv6 = Ipv6Addr::new(0x2001, 0xdb8, number.into(), layer.into(), 0, 0, 0, 1);
            let addresses = vec![ipv4.into(), self.inside_ipv6(parent, ipv6)];
            self.nodes.push(PlannedNode {
                name: name.into(),
                owner: Arc::clone(&owner),
                kind: Planned::Box(*nat),
                parent,
                link,
                addresses,
                seed: self.random.next_u64(),
            });
            parent = Some(self.nodes.len() - 1);
            link = LinkSpec::default();
        }
        let ipv4 = self.own_ipv4(host, number, 0, parent);
        let ipv6 = Ipv6Addr::new(0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 2);
        let second = host.second_ipv4.map(IpAddr::from);
        let addresses = [ipv4.into()].into_iter().chain(second);
        let addresses = addresses.chain([self.inside_ipv6(parent, ipv6)]).collect();
        self.nodes.push(PlannedNode {
            name: Arc::clone(&owner),
            owner,
            kind: Planned::Host,
            parent,
            link,
            addresses,
            seed: self.random.next_u64(),
        });
    }

    /// Returns the IPv4 address of a host (layer 0) or of a NAT of its own.
    fn own_ipv4(&self, host: &HostSpec, number: u8, layer: u8, parent: Option<usize>) -> Ipv4Addr {
        let hiding = self.hiding(parent, |hides| hides.ipv4);
        match (hiding.map(|node| &self.nodes[node]), layer) {
            (None, _) => {
                let usual = Ipv4Addr::new(203, 0, 113, number);
                host.external_ipv4.unwrap_or(usual)
            }
            (Some(shared), _) if shared.name == shared.owner => Ipv4Addr::new(10, number, 200, 2),
            (Some(_), 0) => Ipv4Addr::new(192, 168, number, 2),
            (Some(_), _) => Ipv4Addr::new(10, number, layer, 2),
        }
    }

    /// Returns the own address of a box that translates nothing.
    fn firewall_ipv4(&self, number: u8, layer: u8, parent: Option<usize>) -> Ipv4Addr {
        match (self.hiding(parent, |hides| hides.ipv4), layer) {
            (None, 1) => Ipv4Addr::new(198, 51, 100, number),
            (None, _) => Ipv4Addr::new(198, 18, layer, number),
            (Some(_), _) => Ipv4Addr::new(10, number, 100 + layer, 2),
        }
    }

    /// Moves an IPv6 address into the network that the next box above which translates has inside.
    fn inside_ipv6(&self, parent: Option<usize>, address: Ipv6Addr) -> IpAddr {
        let hiding = self.hiding(parent, |hides| hides.ipv6);
        let Some(Planned::Box(nat)) = hiding.map(|node| &self.nodes[node].kind) else {
            return address.into();
        };
        let [_, _, number, subnet, .., last] = address.segments();
        let moved = match nat.translation6 {
            Translation6::None => address,
            Translation6::Nat66 => Ipv6Addr::new(0xfd00, 0, number, subnet, 0, 0, 0, last),
            Translation6::Nptv6(pair) => {
                // Prefixes have 64 bits at most, so these are always free.
                let own = u128::from(number) << 32 | u128::from(subnet) << 16 | u128::from(last);
                let free = u128::MAX.checked_shr(pair.length.into()).unwrap_or(0);
                Ipv6Addr::from_bits(pair.internal.to_bits() & !free | own)
            }
        };
        moved.into()
    }

    /// Returns the nearest box from `parent` on upwards that hides what is inside.
    fn hiding(&self, parent: Option<usize>, family: fn(Hides) -> bool) -> Option<usize> {
        std::iter::successors(parent, |&node| self.nodes[node].parent)
            .find(|&node| family(self.nodes[node].hides()))
    }

    fn place_of(&self, name: Option<&str>) -> Option<usize> {
        self.nodes.iter().position(|node| Some(&*node.name) == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(topology: Topology) -> Plan {
        topology.check().expect("the test describes a lab");
        Plan::new(&topology, 1)
    }

    /// Name, IPv4 address and box above, of each node.
    fn places(plan: &Plan) -> Vec<(String, String, String)> {
        let name = |node: usize| plan.nodes[node].name.to_string();
        let place = |node: &PlannedNode| {
            let above = node.parent.map_or_else(|| "core".to_owned(), name);
            (node.name.to_string(), node.ipv4().to_string(), above)
        };
        plan.nodes.iter().map(place).collect()
    }

    fn expected(places: &[[&str; 3]]) -> Vec<(String, String, String)> {
        let owned =
            |[name, ipv4, above]: &[&str; 3]| ((*name).into(), (*ipv4).into(), (*above).into());
        places.iter().map(owned).collect()
    }

    #[test]
    fn a_public_host_has_the_public_address_itself() {
        let plan = plan(Topology::new().host(HostSpec::new("a")));
        assert_eq!(places(&plan), expected(&[["a", "203.0.113.1", "core"]]));
        assert_eq!(plan.external_ipv4(0), plan.nodes[0].ipv4());
    }

    #[test]
    fn two_nats_put_a_private_network_between_them() {
        let nat = NatSpec::port_preserving();
        let plan = plan(Topology::new().host(HostSpec::new("a").behind(nat).behind(nat)));
        let wanted = [
            ["a.nat2", "203.0.113.1", "core"],
            ["a.nat", "10.1.1.2", "a.nat2"],
            ["a", "192.168.1.2", "a.nat"],
        ];
        assert_eq!(places(&plan), expected(&wanted));
        assert_eq!(plan.external_ipv4(2), Ipv4Addr::new(203, 0, 113, 1));
    }

    #[test]
    fn a_host_can_have_another_public_address() {
        let address = Ipv4Addr::new(11, 0, 0, 9);
        let host = HostSpec::new("a").behind(NatSpec::port_preserving());
        let plan = plan(Topology::new().host(host.external_ipv4(address)));
        assert_eq!(plan.external_ipv4(1), address);
        assert_eq!(plan.nodes[1].ipv4(), Ipv4Addr::new(192, 168, 1, 2));
    }

    #[test]
    fn a_second_address_is_behind_the_first() {
        let address = Ipv4Addr::new(203, 0, 113, 200);
        let plan = plan(Topology::new().host(HostSpec::new("server").second_ipv4(address)));
        assert_eq!(plan.external_ipv4(0), Ipv4Addr::new(203, 0, 113, 1));
        assert_eq!(plan.nodes[0].addresses[1], IpAddr::from(address));
    }

    #[test]
    fn a_firewall_has_an_address_of_its_own() {
        let host = HostSpec::new("a").behind(NatSpec::firewall());
        let plan = plan(Topology::new().host(host));
        let wanted = [
            ["a.nat", "198.51.100.1", "core"],
            ["a", "203.0.113.1", "a.nat"],
        ];
        assert_eq!(places(&plan), expected(&wanted));
    }

    #[test]
    fn homes_share_a_carrier_nat_with_two_addresses() {
        let nat = NatSpec::port_preserving();
        let home = |name| HostSpec::new(name).behind(nat).behind_shared("cgn");
        let plan = plan(
            Topology::new()
                .shared_box(BoxSpec::new("cgn", nat).addresses(2))
                .host(home("a"))
                .host(home("b")),
        );
        let wanted = [
            ["cgn", "203.0.113.151", "core"],
            ["a.nat", "10.1.200.2", "cgn"],
            ["a", "192.168.1.2", "a.nat"],
            ["b.nat", "10.2.200.2", "cgn"],
            ["b", "192.168.2.2", "b.nat"],
        ];
        assert_eq!(places(&plan), expected(&wanted));
        assert_eq!(plan.nodes[0].external().len(), 2);
        assert_eq!(plan.external_ipv4(4), Ipv4Addr::new(203, 0, 113, 151));
    }

    #[test]
    fn ipv6_is_private_only_behind_what_translates_it() {
        let nat66 = NatSpec {
            translation6: Translation6::Nat66,
            ..NatSpec::port_preserving()
        };
        let plan = plan(
            Topology::new()
                .host(HostSpec::new("a").behind(NatSpec::port_preserving()))
                .host(HostSpec::new("b").behind(nat66)),
        );
        let ipv6: Vec<_> = plan
            .nodes
            .iter()
            .map(|node| node.ipv6().to_string())
            .collect();
        assert_eq!(
            ipv6,
            [
                "2001:db8:1:1::1",
                "2001:db8:1::2",
                "2001:db8:2:1::1",
                "fd00:0:2::2"
            ]
        );
    }
}
