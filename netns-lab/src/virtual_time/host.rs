//! A host: which packet is for which socket, and the calls of its programs.

mod addresses;
mod connection;
mod datagrams;
mod ephemeral;
mod icmp;
mod listeners;
mod loopback;
mod pings;
mod streams;
mod udp;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
    time::Duration,
};

use super::{
    ping::{Ping, Pong},
    socket::SocketError,
    tcp::{self, Flow, Segment, Seq, Tcb},
};
use crate::packet::{Body, Flow as Ends, Headers, Icmp, IcmpContent, IpHeader, Protocol, Unread};
use addresses::Addresses;
use connection::{Connection, Keeper};
use ephemeral::Ephemeral;
use listeners::{Listener, Listeners};
use loopback::Loopback;
use pings::Pings;
use udp::DatagramSockets;

/// What is said of what comes to a listener with a full queue.
const LISTENER_FULL: &str = "dropped: the listener's queue is full";

/// What is said of packets that contradict themselves.
const MALFORMED: &str = "dropped: malformed";

/// What is said of packets that no host has a use for.
const NOT_FOR_HOSTS: &str = "dropped: neither tcp nor udp nor echo nor an error about them";

/// A host and its sockets.
#[derive(Debug)]
pub(super) struct Host {
    /// Packets on their way out.
    sent: Vec<Vec<u8>>,
    loopback: Loopback,
    /// What the sequence numbers of connections depend on.
    secret: u64,
    addresses: Addresses,
    connections: BTreeMap<u64, Connection>,
    /// Whose the incoming segments are.
    flows: BTreeMap<Flow, u64>,
    listeners: Listeners,
    /// How many connections and listeners have each port.
    tcp_ports: BTreeMap<u16, usize>,
    udp: DatagramSockets,
    ephemeral: Ephemeral,
    timers: BTreeSet<(Duration, u64)>,
    /// Sockets that something has happened to since somebody asked.
    changed: BTreeSet<u64>,
    pings: Pings,
    next_number: u64,
}

impl Host {
    pub(super) fn new(addresses: Vec<IpAddr>, seed: u64) -> Self {
        Self {
            sent: Vec::new(),
            loopback: Loopback::default(),
            secret: seed,
            addresses: Addresses::new(addresses),
            connections: BTreeMap::new(),
            flows: BTreeMap::new(),
            listeners: Listeners::default(),
            tcp_ports: BTreeMap::new(),
            udp: DatagramSockets::default(),
            ephemeral: Ephemeral::new(seed),
            timers: BTreeSet::new(),
            changed: BTreeSet::new(),
            pings: Pings::default(),
            next_number: 0,
        }
    }

    /// Returns the packets that the host sent since the last call, without those to
    /// itself.
    pub(super) fn take_sent(&mut self, now: Duration) -> Vec<Vec<u8>> {
        let mut leaving = Vec::new();
        for packet in std::mem::take(&mut self.sent) {
            let ip = IpHeader::read(&packet);
            let Some(ip) = ip.filter(|ip| self.addresses.can_send(ip.source, ip.destination))
            else {
                continue;
            };
            if self.addresses.is_own(ip.destination) {
                self.loopback.send(now, packet);
            } else {
                leaving.push(packet);
            }
        }
        leaving
    }

    /// Returns its addresses.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        self.addresses.all()
    }

    /// Starts anew without any socket, and returns those that are gone.
    pub(super) fn crash(&mut self, seed: u64) -> Vec<u64> {
        let addresses = self.addresses().to_vec();
        let fresh = Self {
            next_number: self.next_number,
            ..Self::new(addresses, seed)
        };
        let gone = std::mem::replace(self, fresh);
        let sockets = gone.connections.keys().chain(gone.listeners.numbers());
        sockets.chain(gone.udp.numbers()).copied().collect()
    }

    /// Returns how many sockets its programs have not closed.
    pub(super) fn open_sockets(&self) -> usize {
        let is_open = |it: &&Connection| !it.released && it.keeper == Keeper::Program;
        let connections = self.connections.values().filter(is_open).count();
        connections + self.listeners.numbers().count() + self.udp.numbers().count()
    }

    /// Gives it other addresses; its sockets stay as they are.
    pub(super) fn set_addresses(&mut self, addresses: &[IpAddr]) {
        self.addresses.set(addresses);
    }

    /// Returns the address that packets come from where a socket does not say.
    pub(super) fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        self.addresses.source_for(destination)
    }

    /// Takes a packet off the link, and says what it did with it.
    pub(super) fn receive(&mut self, now: Duration, packet: &[u8]) -> &'static str {
        let Some(headers) = Headers::read(packet) else {
            return MALFORMED;
        };
        if !self.addresses.contains(headers.ip.destination) {
            return "dropped: not an address of this host";
        }
        self.take(now, &headers, packet)
    }

    /// Takes a packet to an address of the host, and says what it did with it.
    fn take(&mut self, now: Duration, headers: &Headers, packet: &[u8]) -> &'static str {
        match headers.body {
            _ if !headers.is_intact(packet) => "dropped: wrong checksum",
            Body::Tcp(_) => self.receive_segment(now, &headers.ip, packet),
            Body::Udp(flow) => self.receive_datagram(&headers.ip, &flow, packet),
            Body::Icmp(icmp) => match icmp.content {
                IcmpContent::Echo(echo) => self.pings.receive(&echo, packet, &mut self.sent),
                IcmpContent::Error(Ok(about)) => {
                    self.receive_error(now, headers.ip.source, &icmp, &about)
                }
                IcmpContent::Error(Err(_)) | IcmpContent::Other => NOT_FOR_HOSTS,
            },
            Body::Unread(Unread::Malformed) => MALFORMED,
            Body::Unread(_) => NOT_FOR_HOSTS,
        }
    }

    fn receive_segment(&mut self, now: Duration, ip: &IpHeader, packet: &[u8]) -> &'static str {
        let Some((flow, segment)) = tcp::read(ip, packet) else {
            return MALFORMED;
        };
        let is_syn = tcp::is_syn(&segment);
        let listener = self.listeners.hearing(flow.local, flow.remote);
        let listener = listener.filter(|_| is_syn);
        if let Some(&number) = self.flows.get(&flow)
            && (listener.is_none() || !self.gives_way(number, &segment))
        {
            return self.receive_for(now, number, &segment);
        }
        match listener {
            Some(listener) => self.receive_syn(now, listener, flow, &segment),
            None if is_syn && self.listeners.leaves_out(flow.local, flow.remote) => {
                "dropped: left out by the listener"
            }
            None => {
                self.sent.extend(flow.refusal(&segment));
                "to no socket"
            }
        }
    }

    /// Ends a connection in TIME-WAIT for a SYN that begins a new one.
    fn gives_way(&mut self, number: u64, syn: &Segment<'_>) -> bool {
        let connection = self.connections.get_mut(&number);
        let Some(old) = connection.filter(|old| old.tcb.gives_way_to(syn)) else {
            return false;
        };
        old.tcb.finish(None);
        self.hear(number);
        self.settle(number);
        true
    }

    /// A segment has come for a connection.
    fn receive_for(&mut self, now: Duration, number: u64, segment: &Segment<'_>) -> &'static str {
        let Some(connection) = self.connections.get_mut(&number) else {
            return "to no socket";
        };
        if let Keeper::Listener(listener) = connection.keeper
            && segment.ack_number.is_some()
            && self.listeners.get(listener).is_ok_and(Listener::is_full)
        {
            return LISTENER_FULL;
        }
        connection.tcb.input(now, segment);
        self.hear(number);
        self.settle(number);
        "to its socket"
    }

    /// A SYN has come for a listener.
    fn receive_syn(
        &mut self,
        now: Duration,
        listener: u64,
        flow: Flow,
        syn: &Segment<'_>,
    ) -> &'static str {
        let number = self.new_number();
        let initial = self.initial_sequence(now, flow);
        let Ok(keeper) = self.listeners.get_mut(listener) else {
            return "to no socket";
        };
        if !keeper.has_room_for_syn() {
            return LISTENER_FULL;
        }
        keeper.hold(number);
        let tcb = Tcb::answer(now, flow, initial, keeper.options, syn);
        self.insert(number, Connection::new(tcb, Keeper::Listener(listener)));
        self.settle(number);
        "to a listener"
    }

    /// Returns the initial sequence number of a connection (RFC 6528), which is beyond those of
    /// older connections between the same ends.
    fn initial_sequence(&self, now: Duration, flow: Flow) -> Seq {
        let mut hasher = DefaultHasher::new();
        (self.secret, flow).hash(&mut hasher);
        // Linux counts in units of 64 ns.
        let clock = now.as_nanos() >> 6;
        tcp::sequence((clock as u32).wrapping_add(hasher.finish() as u32))
    }

    /// Takes note of what a program may want to know of a connection.
    fn hear(&mut self, number: u64) {
        let connection = self.connections.get_mut(&number);
        if connection.is_some_and(|connection| connection.tcb.take_news()) {
            self.changed.insert(number);
        }
    }

    /// Takes an ICMP error about a packet of ours.
    fn receive_error(
        &mut self,
        now: Duration,
        from: IpAddr,
        error: &Icmp,
        about: &Ends,
    ) -> &'static str {
        match about.protocol {
            Protocol::Tcp => self.receive_tcp_error(now, error, about),
            Protocol::Udp => self.receive_udp_error(error, about),
            Protocol::Echo => self.pings.receive_error(about, from, error),
        }
    }

    fn receive_tcp_error(&mut self, now: Duration, error: &Icmp, about: &Ends) -> &'static str {
        let flow = Flow {
            local: about.source,
            remote: about.destination,
        };
        let Some(&number) = self.flows.get(&flow) else {
            return "ignored: about no connection of this host";
        };
        if let Some(mtu) = error.path_mtu {
            return self.shorten(now, number, mtu);
        }
        let Some((failure, ends_half_open)) = icmp::meaning(error, flow.local.is_ipv4()) else {
            return "ignored: no failure";
        };
        let ended = self
            .connections
            .get_mut(&number)
            .is_some_and(|it| it.tcb.icmp(about.sequence, failure, ends_half_open));
        if !ended {
            return "ignored: the connection does not depend on it";
        }
        self.hear(number);
        self.settle(number);
        "ended its socket"
    }

    /// The path of a connection carries no packet longer than this.
    fn shorten(&mut self, now: Duration, number: u64, mtu: u16) -> &'static str {
        let connection = self.connections.get_mut(&number);
        if !connection.is_some_and(|it| it.tcb.shorten(now, mtu)) {
            return "ignored: packets are no longer than that";
        }
        self.settle(number);
        "shortened the segments of its socket"
    }

    const fn new_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    fn insert(&mut self, number: u64, connection: Connection) {
        let flow = connection.tcb.flow;
        self.use_tcp_port(flow.local.port());
        self.flows.insert(flow, number);
        self.connections.insert(number, connection);
    }

    fn use_tcp_port(&mut self, port: u16) {
        *self.tcp_ports.entry(port).or_default() += 1;
    }

    fn leave_tcp_port(&mut self, port: u16) {
        if let Some(users) = self.tcp_ports.get_mut(&port) {
            *users -= 1;
            if *users == 0 {
                self.tcp_ports.remove(&port);
            }
        }
    }

    /// Lets a connection send, and draws the consequences of its new state.
    fn settle(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if let Some(timer) = connection.timer {
            self.timers.remove(&(timer, number));
        }
        self.sent.append(&mut connection.tcb.take_sent());
        connection.timer = connection.tcb.next_timeout();
        if let Keeper::Listener(listener) = connection.keeper {
            self.settle_half_open(number, listener);
        }
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        if let Some(timer) = connection.timer {
            self.timers.insert((timer, number));
        }
        if connection.tcb.is_closed() {
            let (flow, released) = (connection.tcb.flow, connection.released);
            self.free(flow, number);
            if released {
                self.connections.remove(&number);
                self.changed.remove(&number);
            }
        }
    }

    /// Moves a listener's connection on: into the queue, or away.
    fn settle_half_open(&mut self, number: u64, listener: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        // RFC 9293 section 3.10.7.4: RST returns a passive open to LISTEN.
        if connection.tcb.is_closed() {
            if let Ok(listener) = self.listeners.get_mut(listener) {
                listener.release(number);
            }
            self.forget(number);
        } else if connection.tcb.opened().is_some()
            && let Ok(keeper) = self.listeners.get_mut(listener)
        {
            connection.keeper = Keeper::Queue;
            keeper.enqueue(number);
            self.changed.insert(listener);
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            self.changed.remove(&number);
            self.free(connection.tcb.flow, number);
        }
    }

    /// Lets the ends of a connection be used again, unless they already are.
    fn free(&mut self, flow: Flow, number: u64) {
        if self.flows.get(&flow) == Some(&number) {
            self.flows.remove(&flow);
            self.leave_tcp_port(flow.local.port());
        }
    }

    /// Returns when [`Self::handle_timeout`] wants to be called.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.loopback.next_due()).min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        while let Some(packet) = self.loopback.receive(now) {
            if let Some(headers) = Headers::read(&packet) {
                self.take(now, &headers, &packet);
            }
        }
        while let Some(&(at, number)) = self.timers.first() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.timer = None;
                connection.tcb.timeout(now);
            }
            self.hear(number);
            self.settle(number);
        }
    }

    /// Takes the sockets that something has happened to since the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.changed)
    }

    /// Asks for an echo.
    pub(super) fn ping(&mut self, ping: Ping) -> Result<(), SocketError> {
        let from = self.addresses.source_for(ping.to);
        let from = from.ok_or(SocketError::AddressNotAvailable)?;
        let sent = self.pings.send(from, ping, &mut self.sent);
        sent.then_some(()).ok_or(SocketError::MessageTooLong)
    }

    /// Takes what has come of pings since the last call.
    pub(super) fn take_pongs(&mut self) -> Vec<Pong> {
        self.pings.take()
    }
}
