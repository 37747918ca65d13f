//! The world: places, packets between them, and the clock.

mod changes;
mod faults;
mod sockets;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use p2pconnect_nat::NatSpec;

use super::{host::Host, socket::SocketId};
use crate::{
    error::Error,
    fabric::{
        BoxId, Fabric, Gate, GateError, Hides, HostId, Network, NodeId, Output, Uplink, WorldError,
    },
    middlebox::{Middlebox, SharedModel, Side},
    model::NatModel,
    record::EventLog,
    topology::{Plan, Planned, Topology},
};
use changes::Changes;

pub use changes::Change;

/// Hosts, middleboxes and a core, with a clock of their own.
///
/// Nothing happens but in [`World::run_until`] and [`World::step`]; the calls on sockets return at
/// once, and take no time.
#[derive(Debug)]
pub struct World {
    fabric: Fabric,
    hosts: BTreeMap<NodeId, Host>,
    /// The boxes that the world has made itself.
    models: BTreeMap<Arc<str>, SharedModel>,
    changes: Changes,
    /// Sockets that something has happened to since somebody asked.
    changed: BTreeSet<SocketId>,
    log: EventLog,
    /// Whether anybody will read it.
    keeps_log: bool,
}

/// Building.
impl World {
    /// Makes an empty world; the seed decides all its randomness.
    pub fn new(seed: u64) -> Self {
        Self {
            fabric: Fabric::new(seed, usize::MAX),
            hosts: BTreeMap::new(),
            models: BTreeMap::new(),
            changes: Changes::default(),
            changed: BTreeSet::new(),
            log: EventLog::default(),
            keeps_log: true,
        }
    }

    /// Makes the world that a description describes; with the addresses, and the luck, that a lab
    /// in namespaces would have.
    ///
    /// # Errors
    ///
    /// [`Error`] if the description contradicts itself.
    pub fn build(topology: &Topology, seed: u64) -> Result<Self, Error> {
        topology.check()?;
        let plan = Plan::new(topology, seed);
        let mut models = BTreeMap::new();
        let (fabric, ids) = plan.fabric(seed, usize::MAX, &topology.gates, |node, nat| {
            let model = node.model(nat)?;
            models.insert(Arc::clone(&node.name), model.clone());
            Ok(Some(Box::new(model)))
        })?;
        let mut hosts = BTreeMap::new();
        for (node, id) in plan.nodes.into_iter().zip(ids) {
            if matches!(node.kind, Planned::Host) {
                hosts.insert(id, Host::new(node.addresses, node.seed));
            }
        }
        Ok(Self {
            fabric,
            hosts,
            models,
            changes: Changes::default(),
            changed: BTreeSet::new(),
            log: EventLog::default(),
            keeps_log: true,
        })
    }

    /// Returns the host with this name.
    pub fn find_host(&self, name: &str) -> Option<HostId> {
        let mut hosts = self.hosts.keys();
        let host = hosts.find(|id| &**self.fabric.name(**id) == name);
        host.copied().map(HostId)
    }

    /// Returns the addresses on a host's own link.
    pub fn addresses(&self, host: HostId) -> &[IpAddr] {
        self.hosts.get(&host.0).map_or(&[], Host::addresses)
    }

    /// Returns the box with this name that was made by [`World::add_nat`] or
    /// [`World::build`]; the latter calls it as the shared box, or `<host>.nat`,
    /// `<host>.nat2` and so on.
    pub fn model(&self, name: &str) -> Option<&SharedModel> {
        self.models.get(name)
    }

    /// Returns the addresses that the box with this name translates to, if it has a model
    /// ([`World::model`]).
    pub fn external_addresses(&self, name: &str) -> Vec<IpAddr> {
        let model = self.models.get(name);
        model.map_or_else(Vec::new, |it| it.with(|model| model.external().to_vec()))
    }

    /// Adds a host with any number of addresses; the first ones count first where one is chosen,
    /// see [`World::source_address`].
    ///
    /// # Errors
    ///
    /// [`WorldError`] if an address is already in use where it would have to be routed.
    pub fn add_host(
        &mut self,
        name: &str,
        addresses: &[IpAddr],
        uplink: Uplink,
    ) -> Result<HostId, WorldError> {
        let host = Host::new(addresses.to_vec(), self.fabric.random());
        let id = self.fabric.add_host(name, addresses, uplink)?;
        self.hosts.insert(id, host);
        Ok(HostId(id))
    }

    /// Adds a middlebox with the addresses that it has outside, if any.
    ///
    /// What is behind a box is reachable from outside it by its own addresses in a family where the
    /// box has none (a firewall), and by the box's otherwise (a NAT).
    ///
    /// # Errors
    ///
    /// [`WorldError`] if an address is already in use where it would have to be routed.
    pub fn add_middlebox(
        &mut self,
        name: &str,
        middlebox: Box<dyn Middlebox>,
        outside: &[Network],
        uplink: Uplink,
    ) -> Result<BoxId, WorldError> {
        let middlebox = Some(middlebox);
        let hides = Hides::families_of(outside);
        let id = self
            .fabric
            .add_box(name, middlebox, outside, hides, uplink)?;
        Ok(BoxId(id))
    }

    /// Adds a NAT or a firewall as its specification says, which [`World::model`] and
    /// [`World::reboot`] know by its name.
    ///
    /// # Errors
    ///
    /// [`WorldError`] if the specification contradicts itself, or if an address is
    /// already in use where it would have to be routed.
    pub fn add_nat(
        &mut self,
        name: &str,
        spec: NatSpec,
        external: &[IpAddr],
        uplink: Uplink,
    ) -> Result<BoxId, WorldError> {
        let model = NatModel::new(spec, external.to_vec(), self.fabric.random())?;
        let model = SharedModel::new(model);
        let outside: Vec<Network> = external.iter().map(|&address| address.into()).collect();
        let id = self.add_middlebox(name, Box::new(model.clone()), &outside, uplink)?;
        self.models.insert(name.into(), model);
        Ok(id)
    }

    /// Takes the link above a host or box up or down; what is on it already still arrives. Returns
    /// whether there is such a place.
    pub fn set_link_up(&mut self, name: &str, up: bool) -> bool {
        let node = self.fabric.find(name);
        if let Some(node) = node {
            self.fabric.set_link_up(node, up);
        }
        node.is_some()
    }

    /// Adds a gate, which holds packets back until it has seen another one.
    ///
    /// # Errors
    ///
    /// [`GateError::UnknownPlace`] if it names a host or box that is not there yet.
    pub fn add_gate(&mut self, gate: &Gate) -> Result<(), GateError> {
        self.fabric.add_gate(gate)
    }
}

/// Time.
impl World {
    /// Returns how long the world has existed.
    pub const fn now(&self) -> Duration {
        self.fabric.now()
    }

    /// Returns when something next happens by itself, if ever.
    pub fn next_event(&self) -> Option<Duration> {
        let change = self.changes.next_due();
        let packet = self.fabric.next_due();
        change.into_iter().chain(packet).min()
    }

    /// Lets the next event happen if it is due until `limit`; else moves the clock there and
    /// returns false.
    pub fn step(&mut self, limit: Duration) -> bool {
        let happened = self.change(limit) || self.fabric.step(limit);
        while let Some(output) = self.fabric.poll_output() {
            match output {
                Output::Packet {
                    to, link, packet, ..
                } => self.receive(to, link, packet),
                Output::Timer(node) => self.timer(node),
            }
        }
        self.keep_record();
        happened
    }

    /// Lets time pass until `done` says so, or until `limit`; returns whether it said so.
    ///
    /// It is asked before anything happens and after each event, and may act on the world itself,
    /// as programs on its hosts do.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            if !self.step(limit) {
                return done(self);
            }
        }
    }

    /// Leaves the log as it is: of a dial with a thousand sockets nobody reads every packet.
    pub const fn stop_log(&mut self) {
        self.keeps_log = false;
    }

    /// Returns what happened to each packet so far.
    pub const fn log(&self) -> &EventLog {
        &self.log
    }

    /// Takes what the fabric has seen into the log.
    fn keep_record(&mut self) {
        while let Some(seen) = self.fabric.poll_observation() {
            if !self.keeps_log {
                continue;
            }
            let entry = self.fabric.describe(seen);
            self.log.add(entry);
        }
    }
}

/// Hosts.
impl World {
    /// A packet has come to a host.
    fn receive(&mut self, node: NodeId, link: NodeId, packet: Arc<[u8]>) {
        let now = self.now();
        let Some(host) = self.hosts.get_mut(&node) else {
            return;
        };
        let verdict = host.receive(now, &packet).into();
        self.fabric
            .note_arrival(link, Side::Internal, verdict, packet);
        self.flush(node);
    }

    /// A host has something to do.
    fn timer(&mut self, node: NodeId) {
        let now = self.now();
        if let Some(host) = self.hosts.get_mut(&node) {
            host.handle_timeout(now);
        }
        self.flush(node);
    }

    /// Sends what a host has sent, and sees to its next timer.
    fn flush(&mut self, node: NodeId) {
        let now = self.now();
        let Some(host) = self.hosts.get_mut(&node) else {
            return;
        };
        let changed = host.take_changed().into_iter();
        let host_id = HostId(node);
        self.changed.extend(changed.map(|number| SocketId {
            host: host_id,
            number,
        }));
        for packet in host.take_sent(now) {
            self.fabric.send(now, node, Side::External, packet.into());
        }
        self.fabric.set_timer(node, host.next_timeout());
        self.keep_record();
    }
}
