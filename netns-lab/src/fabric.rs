//! The graph of hosts, boxes, links and the core, and the packets on it.
//!
//! Both grounds carry their packets with this: in virtual time its owner moves the clock from event
//! to event, in namespaces it follows the clock of the machine. It is pure: packets come in by
//! [`Fabric::send`], leave by [`Fabric::poll_output`], and time is an argument.
//!
//! The core has no private addresses (RFC 1918 section 3) and routes the others by address, as does
//! each box for what is inside of it.

mod gate;
mod packets;
mod queue;
mod topology;

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    link::LinkSpec,
    middlebox::{Middlebox, Side},
    record::{Event as Seen, LogEntry},
};
use gate::Gates;
use queue::{Queue, What};
use topology::{Node, Place, Routes};

pub use gate::{Gate, GateError, PacketKind, PacketPattern};
pub use topology::{BoxId, HostId, Network, Uplink, WorldError};
pub(crate) use topology::{Hides, NodeId};

/// The name of what all links lead to in the end.
pub(crate) const CORE: &str = "core";

/// The places of a lab, what connects them, and the packets under way.
#[derive(Debug)]
pub(crate) struct Fabric {
    now: Duration,
    random: ChaCha8Rng,
    nodes: Vec<Node>,
    core: Arc<str>,
    core_routes: Routes,
    queue: Queue,
    /// Most packets under way; beyond it the core drops.
    capacity: usize,
    gates: Gates,
    outputs: VecDeque<Output>,
    observations: VecDeque<Observation>,
}

/// What the owner of a fabric has to see to.
#[derive(Debug)]
pub(crate) enum Output {
    /// A packet has come to a host, or to a side of a box that is not the fabric's own.
    Packet {
        /// The host or box.
        to: NodeId,
        /// The side that it comes in by.
        by: Side,
        /// The link that it came by, named by the node below.
        link: NodeId,
        /// The IP packet.
        packet: Arc<[u8]>,
    },
    /// The time that was asked for has come.
    Timer(NodeId),
}

/// What happened to a packet at one end of the link above a node.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) at: Duration,
    pub(crate) link: NodeId,
    pub(crate) towards: Side,
    pub(crate) event: Seen,
    pub(crate) packet: Arc<[u8]>,
}

/// Building.
impl Fabric {
    /// Makes an empty fabric; the seed decides all its randomness.
    pub(crate) fn new(seed: u64, capacity: usize) -> Self {
        Self {
            now: Duration::ZERO,
            random: ChaCha8Rng::seed_from_u64(seed),
            nodes: Vec::new(),
            core: CORE.into(),
            core_routes: Routes::default(),
            queue: Queue::default(),
            capacity,
            gates: Gates::default(),
            outputs: VecDeque::new(),
            observations: VecDeque::new(),
        }
    }

    /// Adds a host. What comes for it is given to the owner.
    pub(crate) fn add_host(
        &mut self,
        name: &str,
        addresses: &[IpAddr],
        uplink: Uplink,
    ) -> Result<NodeId, WorldError> {
        let networks: Vec<_> = addresses.iter().map(|&address| address.into()).collect();
        self.add(name, &networks, Place::Host, uplink)
    }

    /// Adds a box with the addresses that it has outside; without a middlebox, the owner does its
    /// work.
    pub(crate) fn add_box(
        &mut self,
        name: &str,
        middlebox: Option<Box<dyn Middlebox>>,
        outside: &[Network],
        hides: Hides,
        uplink: Uplink,
    ) -> Result<NodeId, WorldError> {
        let place = Place::middlebox(middlebox, hides);
        let id = self.add(name, outside, place, uplink)?;
        self.schedule_middlebox(id.0);
        Ok(id)
    }

    /// Returns a random number out of the fabric's seed.
    pub(crate) fn random(&mut self) -> u64 {
        self.random.next_u64()
    }

    fn add(
        &mut self,
        name: &str,
        networks: &[Network],
        place: Place,
        uplink: Uplink,
    ) -> Result<NodeId, WorldError> {
        uplink.check()?;
        let id = self.nodes.len();
        let seeds = [(); 2].map(|()| self.random.next_u64());
        let node = Node::new(name, place, networks, uplink, seeds);
        let parent = node.parent;
        self.nodes.push(node);
        let added = self.add_routes(id, networks, parent);
        if added.is_err() {
            self.nodes.pop();
        }
        added.map(|()| NodeId(id))
    }

    /// Gives a node other addresses. Gates know nodes by the addresses that they had when the gate
    /// was added.
    pub(crate) fn set_networks(
        &mut self,
        node: NodeId,
        networks: Vec<Network>,
    ) -> Result<(), WorldError> {
        let parent = self.nodes[node.0].parent;
        let before = std::mem::take(&mut self.nodes[node.0].networks);
        self.remove_routes(node.0, &before, parent);
        let added = self.add_routes(node.0, &networks, parent);
        if added.is_err() {
            // Nobody else has taken them meanwhile.
            let _added = self.add_routes(node.0, &before, parent);
        }
        self.nodes[node.0].networks = if added.is_ok() { networks } else { before };
        added
    }

    /// Returns the addresses of a node.
    pub(crate) fn networks(&self, node: NodeId) -> &[Network] {
        &self.nodes[node.0].networks
    }

    /// Makes networks known as far up as they are seen, or changes nothing.
    fn add_routes(
        &mut self,
        node: usize,
        networks: &[Network],
        parent: Option<usize>,
    ) -> Result<(), WorldError> {
        let hops = |network: &Network| self.hops(*network, node, parent);
        let routes: Vec<_> = networks.iter().flat_map(hops).collect();
        for &(network, router, _) in &routes {
            if self.routes(router).contains(network) {
                return Err(WorldError::AddressInUse(network));
            }
        }
        for (network, router, next) in routes {
            self.routes(router).add(network, next);
        }
        Ok(())
    }

    fn remove_routes(&mut self, node: usize, networks: &[Network], parent: Option<usize>) {
        for &network in networks {
            for (network, router, _) in self.hops(network, node, parent) {
                self.routes(router).remove(network);
            }
        }
    }

    /// Returns where a network must be known for it to be reachable from as far up as it is seen,
    /// and which way it is from there.
    fn hops(
        &self,
        network: Network,
        node: usize,
        mut parent: Option<usize>,
    ) -> Vec<(Network, Option<usize>, usize)> {
        let mut hops = Vec::new();
        let mut child = node;
        loop {
            hops.push((network, parent, child));
            let Some(above) = parent else {
                return hops;
            };
            if self.nodes[above].place.hides(network) {
                return hops;
            }
            child = above;
            parent = self.nodes[above].parent;
        }
    }

    /// Returns the routing table of a box, or of the core.
    fn routes(&mut self, router: Option<usize>) -> &mut Routes {
        match router.map(|id| &mut self.nodes[id].place) {
            Some(Place::Box(inner)) => &mut inner.routes,
            Some(Place::Host) | None => &mut self.core_routes,
        }
    }
}

/// Looking.
impl Fabric {
    /// Returns the time of what happened last.
    pub(crate) const fn now(&self) -> Duration {
        self.now
    }

    /// Returns the node with this name.
    pub(crate) fn find(&self, name: &str) -> Option<NodeId> {
        let node = self.nodes.iter().position(|node| &*node.name == name);
        node.map(NodeId)
    }

    /// Returns the name of a node.
    pub(crate) fn name(&self, node: NodeId) -> &Arc<str> {
        &self.nodes[node.0].name
    }

    /// Returns the box above a node; there is none below the core.
    pub(crate) fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.nodes[node.0].parent.map(NodeId)
    }

    /// Takes the link above a node up or down.
    pub(crate) fn set_link_up(&mut self, node: NodeId, up: bool) {
        for towards in [Side::Internal, Side::External] {
            self.nodes[node.0].link(towards).set_up(up);
        }
    }

    /// Gives the link above a node another behaviour.
    pub(crate) fn set_link(&mut self, node: NodeId, spec: LinkSpec) {
        for towards in [Side::Internal, Side::External] {
            self.nodes[node.0].link(towards).set_spec(spec);
        }
    }

    /// Returns what is found inside of a box.
    pub(crate) fn inside(&self, node: NodeId) -> Vec<Network> {
        match &self.nodes[node.0].place {
            Place::Box(inner) => inner.routes.networks().collect(),
            Place::Host => Vec::new(),
        }
    }

    /// Returns when something next happens by itself, if ever.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.queue.next_due()
    }

    /// Returns what the owner has to see to next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns what has been seen next.
    pub(crate) fn poll_observation(&mut self) -> Option<Observation> {
        self.observations.pop_front()
    }

    /// Puts names to what has been seen.
    pub(crate) fn describe(&self, seen: Observation) -> LogEntry {
        let below = Arc::clone(self.name(seen.link));
        let above = self
            .parent(seen.link)
            .map_or(&self.core, |id| self.name(id));
        let above = Arc::clone(above);
        let (from, to) = match seen.towards {
            Side::External => (below, above),
            Side::Internal => (above, below),
        };
        LogEntry {
            at: seen.at,
            from,
            to,
            event: seen.event,
            packet: seen.packet,
        }
    }
}

/// Time.
impl Fabric {
    /// Lets the next event happen if it is due until `limit`; else moves the clock there and
    /// returns false.
    pub(crate) fn step(&mut self, limit: Duration) -> bool {
        if self.next_due().is_none_or(|at| at > limit) {
            self.now = self.now.max(limit);
            return false;
        }
        let Some(event) = self.queue.pop() else {
            return false;
        };
        self.now = self.now.max(event.at);
        match event.what {
            What::Arrival(link, Side::External, packet) => self.arrive_above(link, packet),
            What::Arrival(link, Side::Internal, packet) => self.arrive_below(link, packet),
            What::Timer(node) => self.timer(node),
            What::GateLimit(gate) => self.open_gate(gate, true),
        }
        true
    }

    /// Asks for an [`Output::Timer`] for a host; a later call replaces this one.
    pub(crate) fn set_timer(&mut self, node: NodeId, at: Option<Duration>) {
        let Some(at) = at.map(|at| at.max(self.now)) else {
            self.nodes[node.0].timer = None;
            return;
        };
        if self.nodes[node.0].timer != Some(at) {
            self.nodes[node.0].timer = Some(at);
            self.queue.push(at, What::Timer(node.0));
        }
    }

    /// A node's timer has run out, unless it was set anew since.
    fn timer(&mut self, node: usize) {
        if self.nodes[node].timer != Some(self.now) {
            return;
        }
        self.nodes[node].timer = None;
        let now = self.now;
        match &mut self.nodes[node].place {
            Place::Host => self.outputs.push_back(Output::Timer(NodeId(node))),
            Place::Box(inner) => {
                let Some(middlebox) = &mut inner.middlebox else {
                    return;
                };
                let mut out = Vec::new();
                let reason = middlebox.handle_timeout(now, &mut out);
                self.leave_box(node, out, Some(&reason));
                self.schedule_middlebox(node);
            }
        }
    }

    fn schedule_middlebox(&mut self, node: usize) {
        let Place::Box(inner) = &self.nodes[node].place else {
            return;
        };
        let next = inner
            .middlebox
            .as_ref()
            .and_then(|middlebox| middlebox.next_timeout());
        self.set_timer(NodeId(node), next);
    }
}
