//! The world: places, packets between them, and the clock.

mod sockets;
mod topology;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::middlebox::{Middlebox, Outgoing, Side};
use super::packet::IpHeader;
use super::record::{EventLog, LogEntry};
use crate::capture::{Fate, is_private};
use crate::link::Crossing;
use topology::{Node, Place, Routes};

pub use topology::{BoxId, HostId, Network, Uplink, WorldError};

/// Hosts, middleboxes and a core, with a clock of their own.
///
/// Nothing happens but in [`World::run_until`] and [`World::step`]; the calls
/// on sockets return at once, and take no time.
#[derive(Debug)]
pub struct World {
    now: Duration,
    random: ChaCha8Rng,
    nodes: Vec<Node>,
    core: Arc<str>,
    core_routes: Routes,
    queue: BinaryHeap<Reverse<Event>>,
    next_sequence: u64,
    log: EventLog,
}

/// Something that will happen.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Duration,
    /// Keeps events of one moment in order, and the comparison short.
    sequence: u64,
    what: What,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A packet leaves the link above a node, upwards.
    Up(usize, Arc<[u8]>),
    /// A packet leaves the link above a node, downwards.
    Down(usize, Arc<[u8]>),
    /// A node has something to do.
    Timer(usize),
}

/// Building.
impl World {
    /// Makes an empty world; the seed decides all its randomness.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            random: ChaCha8Rng::seed_from_u64(seed),
            nodes: Vec::new(),
            core: "core".into(),
            core_routes: Routes::default(),
            queue: BinaryHeap::new(),
            next_sequence: 0,
            log: EventLog::default(),
        }
    }

    /// Adds a host with at most one address of each family.
    ///
    /// # Errors
    ///
    /// [`WorldError`] if it has more, if an address is already in use where
    /// it would have to be routed, or if the link cannot be built.
    pub fn add_host(
        &mut self,
        name: &str,
        addresses: &[IpAddr],
        uplink: Uplink,
    ) -> Result<HostId, WorldError> {
        let of_v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
        if of_v4 > 1 || addresses.len() - of_v4 > 1 {
            return Err(WorldError::TooManyAddresses);
        }
        let place = Place::host(addresses.to_vec(), self.random.next_u64());
        let networks: Vec<_> = addresses.iter().map(|&address| address.into()).collect();
        self.add(name, &networks, place, uplink).map(HostId)
    }

    /// Adds a middlebox with the addresses that it has outside, if any.
    ///
    /// What is behind a box is reachable from outside it by its own addresses
    /// in a family where the box has none (a firewall), and by the box's
    /// otherwise (a NAT).
    ///
    /// # Errors
    ///
    /// [`WorldError`] if an address is already in use where it would have to
    /// be routed, or if the link cannot be built.
    pub fn add_middlebox(
        &mut self,
        name: &str,
        middlebox: Box<dyn Middlebox>,
        outside: &[Network],
        uplink: Uplink,
    ) -> Result<BoxId, WorldError> {
        let place = Place::middlebox(middlebox, outside.to_vec());
        let id = self.add(name, outside, place, uplink)?;
        self.schedule_timer(id);
        Ok(BoxId(id))
    }

    fn add(
        &mut self,
        name: &str,
        networks: &[Network],
        place: Place,
        uplink: Uplink,
    ) -> Result<usize, WorldError> {
        uplink.check()?;
        let id = self.nodes.len();
        let seeds = (self.random.next_u64(), self.random.next_u64());
        let node = Node::new(name, place, uplink, seeds);
        let routes: Vec<_> = networks
            .iter()
            .flat_map(|&network| self.hops(network, id, node.parent))
            .collect();
        for &(network, router, _) in &routes {
            if self.routes(router).contains(network) {
                return Err(WorldError::AddressInUse(network));
            }
        }
        for (network, router, next) in routes {
            self.routes(router).add(network, next);
        }
        self.nodes.push(node);
        Ok(id)
    }

    /// Returns where a network must be known for it to be reachable from as
    /// far up as it is seen, and which way it is from there.
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
            Some(Place::Host(_)) | None => &mut self.core_routes,
        }
    }
}

/// Time.
impl World {
    /// Returns how long the world has existed.
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// Returns when something next happens by itself, if ever.
    pub fn next_event(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse(event)| event.at)
    }

    /// Lets the next event happen if it is due until `limit`; else moves the
    /// clock there and returns false.
    pub fn step(&mut self, limit: Duration) -> bool {
        if self.next_event().is_none_or(|at| at > limit) {
            self.now = self.now.max(limit);
            return false;
        }
        let Some(Reverse(event)) = self.queue.pop() else {
            return false;
        };
        self.now = event.at;
        match event.what {
            What::Up(node, packet) => self.arrive_above(node, packet),
            What::Down(node, packet) => self.arrive(node, packet),
            What::Timer(node) => self.timer(node),
        }
        true
    }

    /// Lets time pass until `done` says so, or until `limit`; returns whether
    /// it said so.
    ///
    /// It is asked before anything happens and after each event, and may act
    /// on the world itself, as programs on its hosts do.
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

    /// Returns what happened to each packet so far.
    pub const fn log(&self) -> &EventLog {
        &self.log
    }
}

/// Packets.
impl World {
    fn record(&mut self, place: Arc<str>, verdict: Cow<'static, str>, packet: &Arc<[u8]>) {
        self.log.add(LogEntry {
            at: self.now,
            place,
            verdict,
            packet: Arc::clone(packet),
        });
    }

    fn schedule(&mut self, at: Duration, what: What) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.queue.push(Reverse(Event { at, sequence, what }));
    }

    /// Puts a packet on the link above a node.
    fn carry(&mut self, node: usize, side: Side, packet: Arc<[u8]>) {
        let now = self.now;
        let (name, link) = self.nodes[node].link(side);
        let name = Arc::clone(name);
        let (at, duplicate) = match link.carry(now, packet.len()) {
            Crossing::Lost(loss) => return self.record(name, loss.text(), &packet),
            Crossing::Exits { at, duplicate } => (at, duplicate),
        };
        let verdict = duplicate.map_or("carried", |_| "carried twice");
        self.record(name, verdict.into(), &packet);
        for exit in [Some(at), duplicate].into_iter().flatten() {
            let packet = Arc::clone(&packet);
            let what = match side {
                Side::Outside => What::Up(node, packet),
                Side::Inside => What::Down(node, packet),
            };
            self.schedule(exit, what);
        }
    }

    /// A packet has come up the link above a node.
    fn arrive_above(&mut self, node: usize, packet: Arc<[u8]>) {
        match self.nodes[node].parent {
            Some(parent) => self.arrive_inside(parent, packet),
            None => self.cross_core(packet),
        }
    }

    /// A packet is in the core, which has no private addresses (RFC 1918
    /// section 3) and routes the others.
    fn cross_core(&mut self, packet: Arc<[u8]>) {
        let header = IpHeader::read(&packet);
        let to = header.and_then(|header| self.core_routes.get(header.destination));
        let fate = match (header, to) {
            (Some(header), _) if is_private(header.source) => Fate::PrivateSource,
            (_, Some(_)) => Fate::Carried,
            (_, None) => Fate::NoRoute,
        };
        let verdict = fate.comment().unwrap_or("routed");
        self.record(Arc::clone(&self.core), verdict.into(), &packet);
        if let (Fate::Carried, Some(to)) = (fate, to) {
            self.carry(to, Side::Inside, packet);
        }
    }

    /// A packet has come to a box from one of those inside.
    fn arrive_inside(&mut self, node: usize, packet: Arc<[u8]>) {
        let Place::Box(inner) = &self.nodes[node].place else {
            return;
        };
        let destination = IpHeader::read(&packet).map(|header| header.destination);
        // A router only translates what passes from one side to the other.
        if let Some(neighbour) = destination.and_then(|address| inner.routes.get(address)) {
            let name = Arc::clone(&self.nodes[node].name);
            self.record(name, "routed inside".into(), &packet);
            return self.carry(neighbour, Side::Inside, packet);
        }
        self.pass(node, Side::Inside, packet);
    }

    /// A packet has come down the link above a node.
    fn arrive(&mut self, node: usize, packet: Arc<[u8]>) {
        let now = self.now;
        let Place::Host(host) = &mut self.nodes[node].place else {
            return self.pass(node, Side::Outside, packet);
        };
        let verdict = host.receive(now, &packet);
        let name = Arc::clone(&self.nodes[node].name);
        self.record(name, verdict.into(), &packet);
        self.flush(node);
    }

    /// A packet goes through a middlebox.
    fn pass(&mut self, node: usize, side: Side, packet: Arc<[u8]>) {
        let now = self.now;
        let Place::Box(inner) = &mut self.nodes[node].place else {
            return;
        };
        let mut out = Vec::new();
        let verdict = inner.middlebox.handle(now, side, packet.to_vec(), &mut out);
        let name = Arc::clone(&self.nodes[node].name);
        self.record(name, verdict, &packet);
        self.leave_box(node, out);
        self.schedule_timer(node);
    }

    /// Packets leave a middlebox.
    fn leave_box(&mut self, node: usize, out: Vec<Outgoing>) {
        for Outgoing { side, packet } in out {
            let packet = Arc::from(packet);
            match side {
                Side::Outside => self.carry(node, Side::Outside, packet),
                Side::Inside => self.leave_inside(node, packet),
            }
        }
    }

    fn leave_inside(&mut self, node: usize, packet: Arc<[u8]>) {
        let Place::Box(inner) = &self.nodes[node].place else {
            return;
        };
        let destination = IpHeader::read(&packet).map(|header| header.destination);
        match destination.and_then(|address| inner.routes.get(address)) {
            Some(child) => self.carry(child, Side::Inside, packet),
            None => {
                let name = Arc::clone(&self.nodes[node].name);
                self.record(name, "dropped: no such host inside".into(), &packet);
            }
        }
    }

    /// A node's timer has run out, unless it was set anew since.
    fn timer(&mut self, node: usize) {
        let now = self.now;
        if self.nodes[node].timer != Some(now) {
            return;
        }
        self.nodes[node].timer = None;
        match &mut self.nodes[node].place {
            Place::Host(host) => {
                host.handle_timeout(now);
                self.flush(node);
            }
            Place::Box(inner) => {
                let mut out = Vec::new();
                let reason = inner.middlebox.handle_timeout(now, &mut out);
                for outgoing in &out {
                    let name = Arc::clone(&self.nodes[node].name);
                    self.record(name, reason.clone(), &Arc::from(outgoing.packet.as_slice()));
                }
                self.leave_box(node, out);
                self.schedule_timer(node);
            }
        }
    }

    /// Sends what a host has sent, and sees to its next timer.
    fn flush(&mut self, node: usize) {
        let Place::Host(host) = &mut self.nodes[node].place else {
            return;
        };
        for packet in host.take_sent() {
            let packet = Arc::from(packet);
            let name = Arc::clone(&self.nodes[node].name);
            self.record(name, "sent".into(), &packet);
            self.carry(node, Side::Outside, packet);
        }
        self.schedule_timer(node);
    }

    fn schedule_timer(&mut self, node: usize) {
        let next = match &self.nodes[node].place {
            Place::Host(host) => host.next_timeout(),
            Place::Box(inner) => inner.middlebox.next_timeout(),
        };
        let Some(at) = next.map(|at| at.max(self.now)) else {
            self.nodes[node].timer = None;
            return;
        };
        if self.nodes[node].timer != Some(at) {
            self.nodes[node].timer = Some(at);
            self.schedule(at, What::Timer(node));
        }
    }
}
