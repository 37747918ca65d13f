//! A host: which packet is for which socket, and the calls of its programs.

mod addresses;
mod connection;
mod datagrams;
mod ephemeral;
mod icmp;
mod listeners;
mod pings;
mod stack;
mod streams;
mod udp;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use smoltcp::iface::SocketSet;
use smoltcp::socket::tcp::State;

use super::ping::{Ping, Pong};
use super::socket::{Opening, SocketError};
use crate::packet::{
    Body, Flow as Ends, Headers, Icmp, IcmpContent, IpHeader, Protocol, Segment, Unread,
};
use addresses::Addresses;
use connection::{Connection, Flow, Keeper};
use ephemeral::Ephemeral;
use listeners::{Listener, Listeners};
use pings::Pings;
use stack::Stack;
use udp::DatagramSockets;

/// What is said of what comes to a listener with a full queue.
const LISTENER_FULL: &str = "dropped: the listener's queue is full";

/// What is said of packets that no host has a use for.
const NOT_FOR_HOSTS: &str = "dropped: neither tcp nor udp nor echo nor an error about them";

/// A host and its sockets.
#[derive(Debug)]
pub(super) struct Host {
    stack: Stack,
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
            stack: Stack::new(seed),
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

    /// Returns the packets that the host sent since the last call.
    pub(super) fn take_sent(&mut self) -> Vec<Vec<u8>> {
        let mut sent = std::mem::take(self.stack.sent());
        let may_leave = |packet: &Vec<u8>| {
            let header = IpHeader::read(packet);
            header.is_some_and(|header| self.addresses.can_send_from(header.source))
        };
        sent.retain(may_leave);
        sent
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
            return "dropped: malformed";
        };
        if !self.addresses.contains(headers.ip.destination) {
            return "dropped: not an address of this host";
        }
        match headers.body {
            _ if !headers.is_intact(packet) => "dropped: wrong checksum",
            Body::Tcp(segment) => self.receive_segment(now, &segment, packet),
            Body::Udp(flow) => self.receive_datagram(&headers.ip, &flow, packet),
            Body::Icmp(icmp) => match icmp.content {
                IcmpContent::Echo(echo) => self.pings.receive(&echo, packet, &mut self.stack),
                IcmpContent::Error(Ok(about)) => {
                    self.receive_error(now, headers.ip.source, &icmp, &about)
                }
                IcmpContent::Error(Err(_)) | IcmpContent::Other => NOT_FOR_HOSTS,
            },
            Body::Unread(Unread::Malformed) => "dropped: malformed",
            Body::Unread(_) => NOT_FOR_HOSTS,
        }
    }

    fn receive_segment(&mut self, now: Duration, segment: &Segment, packet: &[u8]) -> &'static str {
        let flow = Flow {
            local: segment.flow.destination,
            remote: segment.flow.source,
        };
        if let Some(&number) = self.flows.get(&flow) {
            return self.receive_for(now, number, segment, packet);
        }
        let listener = self.listeners.hearing(flow.local, flow.remote);
        match listener.filter(|_| segment.flow.flags.is_syn()) {
            Some(listener) => self.receive_syn(now, listener, flow, packet),
            None => {
                self.stack.input(now, packet, &mut SocketSet::new(vec![]));
                "to no socket"
            }
        }
    }

    /// A segment has come for a connection.
    fn receive_for(
        &mut self,
        now: Duration,
        number: u64,
        segment: &Segment,
        packet: &[u8],
    ) -> &'static str {
        let Some(connection) = self.connections.get_mut(&number) else {
            return "to no socket";
        };
        if let Keeper::Listener(listener) = connection.keeper
            && !segment.flow.flags.is_rst()
            && self.listeners.get(listener).is_ok_and(Listener::is_full)
        {
            return LISTENER_FULL;
        }
        connection.input(now, segment, packet, &mut self.stack);
        self.changed.insert(number);
        self.settle(now, number);
        "to its socket"
    }

    /// A SYN has come for a listener.
    fn receive_syn(
        &mut self,
        now: Duration,
        listener: u64,
        flow: Flow,
        packet: &[u8],
    ) -> &'static str {
        let number = self.new_number();
        let Ok(keeper) = self.listeners.get_mut(listener) else {
            return "to no socket";
        };
        if !keeper.has_room_for_syn() {
            return LISTENER_FULL;
        }
        keeper.hold(number);
        let mut connection = Connection::new(flow, Opening::Passive, Keeper::Listener(listener));
        connection.answer(now, packet, &mut self.stack);
        self.insert(number, connection);
        self.settle(now, number);
        "to a listener"
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
        let Some((failure, ends_half_open)) = icmp::meaning(error, flow.local.is_ipv4()) else {
            return "ignored: no failure";
        };
        let ended = self
            .connections
            .get_mut(&number)
            .is_some_and(|connection| connection.icmp(about.sequence, failure, ends_half_open));
        if !ended {
            return "ignored: the connection does not depend on it";
        }
        self.changed.insert(number);
        self.settle(now, number);
        "ended its socket"
    }

    const fn new_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    fn insert(&mut self, number: u64, connection: Connection) {
        self.use_tcp_port(connection.flow.local.port());
        self.flows.insert(connection.flow, number);
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
    fn settle(&mut self, now: Duration, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if let Some(timer) = connection.timer {
            self.timers.remove(&(timer, number));
        }
        connection.settle(now, &mut self.stack);
        if let Keeper::Listener(listener) = connection.keeper {
            self.settle_half_open(number, listener);
        }
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        if let Some(timer) = connection.timer {
            self.timers.insert((timer, number));
        }
        if connection.tcp_state() == State::Closed {
            let (flow, released) = (connection.flow, connection.released);
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
        if matches!(connection.tcp_state(), State::Listen | State::Closed) {
            if let Ok(listener) = self.listeners.get_mut(listener) {
                listener.release(number);
            }
            self.forget(number);
        } else if connection.established.is_some()
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
            self.free(connection.flow, number);
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
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        while let Some(&(at, number)) = self.timers.first() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.timer = None;
                connection.timeout(now, &mut self.stack);
                self.changed.insert(number);
            }
            self.settle(now, number);
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
        let sent = self.pings.send(from, ping, &mut self.stack);
        sent.then_some(()).ok_or(SocketError::MessageTooLong)
    }

    /// Takes what has come of pings since the last call.
    pub(super) fn take_pongs(&mut self) -> Vec<Pong> {
        self.pings.take()
    }
}
