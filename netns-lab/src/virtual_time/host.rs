//! A host: which packet is for which socket, and the calls of its programs.

mod connection;
mod icmp;
mod pings;
mod stack;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smoltcp::iface::SocketSet;
use smoltcp::socket::tcp::State;

use super::ping::{Ping, Pong};
use super::socket::{Opening, SocketError, SocketState};
use crate::packet::{Body, Flow as Ends, Headers, Icmp, IcmpContent, Protocol, Segment, Unread};
use connection::{Connection, Flow, Keeper};
use pings::Pings;
use stack::Stack;

/// Connections that a listener keeps until they are accepted, half-open ones
/// included: Linux's `net.core.somaxconn`.
const MAX_BACKLOG: usize = 4096;

/// What is said of packets that no host has a use for.
const NOT_FOR_HOSTS: &str = "dropped: neither tcp nor echo nor an error about them";

/// A host and its sockets.
#[derive(Debug)]
pub(super) struct Host {
    stack: Stack,
    addresses: Vec<IpAddr>,
    connections: BTreeMap<u64, Connection>,
    /// Whose the incoming segments are.
    flows: BTreeMap<Flow, u64>,
    listeners: BTreeMap<u16, Listener>,
    timers: BTreeSet<(Duration, u64)>,
    /// Connections that something may have happened to since somebody asked.
    changed: BTreeSet<u64>,
    /// Connections in the queues of all listeners.
    queued: usize,
    pings: Pings,
    next_number: u64,
}

#[derive(Debug, Default)]
struct Listener {
    /// Half-open connections, and those in the queue.
    held: usize,
    queue: VecDeque<u64>,
}

impl Host {
    /// Makes a host with at most one address of each family.
    pub(super) fn new(addresses: Vec<IpAddr>, seed: u64) -> Self {
        Self {
            stack: Stack::new(&addresses, seed),
            addresses,
            connections: BTreeMap::new(),
            flows: BTreeMap::new(),
            listeners: BTreeMap::new(),
            timers: BTreeSet::new(),
            changed: BTreeSet::new(),
            queued: 0,
            pings: Pings::default(),
            next_number: 0,
        }
    }

    /// Returns the packets that the host sent since the last call.
    pub(super) fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(self.stack.sent())
    }

    /// Returns its addresses.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Takes a packet off the link, and says what it did with it.
    pub(super) fn receive(&mut self, now: Duration, packet: &[u8]) -> &'static str {
        let Some(headers) = Headers::read(packet) else {
            return "dropped: malformed";
        };
        if !self.addresses.contains(&headers.ip.destination) {
            return "dropped: not an address of this host";
        }
        match headers.body {
            _ if !headers.is_intact(packet) => "dropped: wrong checksum",
            Body::Tcp(segment) => self.receive_segment(now, &segment, packet),
            Body::Icmp(icmp) => match icmp.content {
                IcmpContent::Echo(echo) => self.pings.receive(&echo, packet, &mut self.stack),
                IcmpContent::Error(Ok(about)) => {
                    self.receive_error(now, headers.ip.source, &icmp, &about)
                }
                IcmpContent::Error(Err(_)) | IcmpContent::Other => NOT_FOR_HOSTS,
            },
            Body::Unread(Unread::Malformed) => "dropped: malformed",
            Body::Udp(_) | Body::Unread(_) => NOT_FOR_HOSTS,
        }
    }

    fn receive_segment(&mut self, now: Duration, segment: &Segment, packet: &[u8]) -> &'static str {
        let flow = Flow {
            local: segment.flow.destination,
            remote: segment.flow.source,
        };
        if let Some(&number) = self.flows.get(&flow) {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.input(now, segment, packet, &mut self.stack);
            }
            self.settle(now, number);
            return "to its socket";
        }
        match self.listeners.get_mut(&flow.local.port()) {
            Some(listener) if segment.flow.flags.is_syn() => {
                if listener.held >= MAX_BACKLOG {
                    return "dropped: the listener's queue is full";
                }
                listener.held += 1;
                let number = self.insert(Connection::new(flow, Opening::Passive));
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.answer(now, packet, &mut self.stack);
                }
                self.settle(now, number);
                "to a listener"
            }
            Some(_) | None => {
                self.stack.input(now, packet, &mut SocketSet::new(vec![]));
                "to no socket"
            }
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
            Protocol::Echo => self.pings.receive_error(about, from, error),
            Protocol::Udp => NOT_FOR_HOSTS,
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
        self.settle(now, number);
        "ended its socket"
    }

    fn insert(&mut self, connection: Connection) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.flows.insert(connection.flow, number);
        self.connections.insert(number, connection);
        number
    }

    /// Lets a connection send, and draws the consequences of its new state.
    fn settle(&mut self, now: Duration, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        self.changed.insert(number);
        if let Some(timer) = connection.timer {
            self.timers.remove(&(timer, number));
        }
        connection.settle(now, &mut self.stack);
        if connection.keeper == Keeper::Listener {
            self.settle_half_open(number);
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
    fn settle_half_open(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let listener = self.listeners.get_mut(&connection.flow.local.port());
        // RFC 9293 section 3.10.7.4: RST returns a passive open to LISTEN.
        if matches!(connection.tcp_state(), State::Listen | State::Closed) {
            if let Some(listener) = listener {
                listener.held -= 1;
            }
            self.forget(number);
        } else if let Some(listener) = listener
            && connection.established.is_some()
        {
            connection.keeper = Keeper::Queue;
            listener.queue.push_back(number);
            self.queued += 1;
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
            }
            self.settle(now, number);
        }
    }
}

impl Host {
    /// Begins to connect.
    pub(super) fn connect(
        &mut self,
        now: Duration,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<u64, SocketError> {
        let flow = Flow { local, remote };
        if !self.addresses.contains(&local.ip()) || self.flows.contains_key(&flow) {
            return Err(SocketError::AddressNotAvailable);
        }
        let mut connection = Connection::new(flow, Opening::Active);
        if !connection.connect(now, &mut self.stack) {
            return Err(SocketError::AddressNotAvailable);
        }
        let number = self.insert(connection);
        self.settle(now, number);
        Ok(number)
    }

    /// Asks for an echo.
    pub(super) fn ping(&mut self, ping: Ping) -> Result<(), SocketError> {
        let mut own = self.addresses.iter();
        let from = own.find(|own| own.is_ipv4() == ping.to.is_ipv4());
        let from = *from.ok_or(SocketError::AddressNotAvailable)?;
        let sent = self.pings.send(from, ping, &mut self.stack);
        sent.then_some(()).ok_or(SocketError::MessageTooLong)
    }

    /// Takes what has come of pings since the last call.
    pub(super) fn take_pongs(&mut self) -> Vec<Pong> {
        self.pings.take()
    }

    pub(super) fn listen(&mut self, port: u16) -> Result<(), SocketError> {
        if port == 0 {
            return Err(SocketError::AddressNotAvailable);
        }
        if self.listeners.contains_key(&port) {
            return Err(SocketError::AddressInUse);
        }
        self.listeners.insert(port, Listener::default());
        Ok(())
    }

    /// Closes a listener; what it has not handed out is reset.
    pub(super) fn unlisten(&mut self, now: Duration, port: u16) {
        let Some(listener) = self.listeners.remove(&port) else {
            return;
        };
        self.queued -= listener.queue.len();
        let unaccepted = |connection: &Connection| {
            connection.keeper != Keeper::Program && connection.flow.local.port() == port
        };
        let numbers: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| unaccepted(connection))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            // It is there: it was just listed.
            let _found = self.abort(now, number);
        }
    }

    /// Takes the oldest connection out of a listener's queue.
    pub(super) fn accept(&mut self, port: u16) -> Option<(u64, SocketAddr, SocketAddr)> {
        let listener = self.listeners.get_mut(&port)?;
        let number = listener.queue.pop_front()?;
        listener.held -= 1;
        self.queued -= 1;
        let connection = self.connections.get_mut(&number)?;
        connection.keeper = Keeper::Program;
        Some((number, connection.flow.local, connection.flow.remote))
    }

    /// Takes the oldest connection out of the queue of some listener.
    pub(super) fn accept_any(&mut self) -> Option<(u64, SocketAddr, SocketAddr)> {
        while self.queued > 0 {
            let mut listeners = self.listeners.iter();
            let (&port, _) = listeners.find(|(_, listener)| !listener.queue.is_empty())?;
            // One that has been reset since is not there any more.
            if let Some(accepted) = self.accept(port) {
                return Some(accepted);
            }
        }
        None
    }

    /// Takes the numbers of the connections that something may have happened to
    /// since the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn state(&self, number: u64) -> Result<SocketState, SocketError> {
        Ok(self.get(number)?.state())
    }

    /// Returns how the connection came about and when, if it did.
    pub(super) fn opened(&self, number: u64) -> Result<Option<(Opening, Duration)>, SocketError> {
        let connection = self.get(number)?;
        Ok(connection.established.map(|at| (connection.opening, at)))
    }

    pub(super) fn ends(&self, number: u64) -> Result<(SocketAddr, SocketAddr), SocketError> {
        let flow = self.get(number)?.flow;
        Ok((flow.local, flow.remote))
    }

    pub(super) fn send(
        &mut self,
        now: Duration,
        number: u64,
        data: &[u8],
    ) -> Result<usize, SocketError> {
        let connection = self.get_mut(number)?;
        if let SocketState::Failed(failure) = connection.state() {
            return Err(failure.into());
        }
        if connection.established.is_none() {
            return Err(SocketError::NotConnected);
        }
        let sent = connection.tcp().send_slice(data);
        self.settle(now, number);
        sent.map_err(|_closed| SocketError::NotConnected)
    }

    /// Takes data that has come in: none yet is `None`, the end is 0.
    pub(super) fn receive_data(
        &mut self,
        now: Duration,
        number: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, SocketError> {
        let connection = self.get_mut(number)?;
        let state = connection.state();
        let socket = connection.tcp();
        if socket.can_recv() {
            let taken = socket.recv_slice(buffer).unwrap_or(0);
            // The other end may have waited for room.
            self.settle(now, number);
            return Ok(Some(taken));
        }
        match state {
            SocketState::Failed(failure) => Err(failure.into()),
            SocketState::Connecting => Ok(None),
            SocketState::Connected if socket.may_recv() => Ok(None),
            SocketState::Connected | SocketState::Closed => Ok(Some(0)),
        }
    }

    /// Ends our direction with FIN.
    pub(super) fn shutdown(&mut self, now: Duration, number: u64) -> Result<(), SocketError> {
        let connection = self.get_mut(number)?;
        match connection.state() {
            SocketState::Failed(failure) => return Err(failure.into()),
            SocketState::Connecting => return Err(SocketError::NotConnected),
            SocketState::Connected | SocketState::Closed => connection.tcp().close(),
        }
        self.settle(now, number);
        Ok(())
    }

    /// Gives a socket up, politely where that is possible.
    pub(super) fn close(&mut self, now: Duration, number: u64) -> Result<(), SocketError> {
        let connection = self.get_mut(number)?;
        let unread = connection.tcp().recv_queue() > 0;
        if unread || connection.established.is_none() {
            return self.abort(now, number);
        }
        connection.released = true;
        connection.tcp().close();
        self.settle(now, number);
        Ok(())
    }

    /// Gives a socket up at once.
    pub(super) fn abort(&mut self, now: Duration, number: u64) -> Result<(), SocketError> {
        let connection = self.get_mut(number)?;
        connection.released = true;
        connection.abort();
        self.settle(now, number);
        Ok(())
    }

    fn get(&self, number: u64) -> Result<&Connection, SocketError> {
        let connection = self.connections.get(&number);
        connection
            .filter(|connection| !connection.released)
            .ok_or(SocketError::UnknownSocket)
    }

    fn get_mut(&mut self, number: u64) -> Result<&mut Connection, SocketError> {
        let connection = self.connections.get_mut(&number);
        connection
            .filter(|connection| !connection.released)
            .ok_or(SocketError::UnknownSocket)
    }
}
