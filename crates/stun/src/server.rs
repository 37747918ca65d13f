//! A STUN server over TCP and UDP.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Stream, Witness};
use p2pconnect_host::Host;
use p2pconnect_proto::TokenKey;
use tokio::{sync::mpsc, task::JoinSet};

mod accept;
pub(crate) mod answer;
mod connect_back;
pub(crate) mod datagram;
pub(crate) mod discovery;
mod limits;
mod meter;
mod ports;
mod serve;
#[cfg(test)]
mod tests;
mod tls;
mod udp;

pub use self::{
    meter::StunMeter,
    ports::{ListenError, StunTransports},
    tls::{TlsConnection, TlsPlace, tls_connections},
};

use self::{
    discovery::{Place, Quad},
    limits::{Limits, datagrams::DatagramLimits},
    meter::Counts,
    ports::Ports,
};

/// What a connection costs: 3 KiB of this process, and 1.5 KiB of the system's for it while its
/// buffers are empty.
pub const BYTES_PER_CONNECTION: u64 = 5 * 1024;

/// What a server allows. The default suits a public server beside a coordinator, of which it serves
/// all peers: 10,000 that are registered, and 512 clients of one address, since a carrier's NAT
/// puts many subscribers behind one. A peer holds a connection from each of its two punch ports, to
/// two servers at most, which may be addresses of this one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StunServerConfig {
    /// The most connections altogether. 40,960 by default: the four of each registered peer, and
    /// some short questions. 200 MiB of memory ([`BYTES_PER_CONNECTION`]), and as many open files:
    /// where the system allows fewer, a program sets this below that, with some left for its other
    /// work. When all slots are taken, a newcomer from a network with a smaller share gets that of
    /// the quietest connection of the network that has the most.
    pub max_connections: usize,
    /// The most connections of one IPv4 address or IPv6 /64; an IPv6 /48 gets four times as many.
    /// Beyond, a newcomer gets the slot of one on which nothing was asked for a minute, if there is
    /// one. 4,096 by default: the four of each client of one address, and as many again for short
    /// questions, of which a peer that finds out how its NAT behaves has some 15 at a time. A tenth
    /// of all, in 10 MiB.
    pub max_connections_per_address: usize,
    /// The requests and connections per second of one IPv4 address or IPv6 /64 in the long run; an
    /// IPv6 /48 gets four times as many. 256 by default: the 2,048 connections that may be held ask
    /// every 15 s, which takes 137, and the rest serves two peers that start in each second. What
    /// comes faster is answered later.
    pub requests_per_second: u32,
    /// How many of them may come at once. 24,576 by default: 48 for each client of one address,
    /// as all of them begin anew when that address changes. Four connections and their requests
    /// are 8; 13 questions about the ports that a NAT gives out are 26, and three on one
    /// connection about what it lets in are 7.
    pub request_burst: u32,
    /// How long a connection is kept on which nothing is asked any more. 4 hours by default:
    /// RFC 5382 REQ-5 lets NATs forget an idle connection after 2 h 4 min, so a client that keeps
    /// its mapping by TCP keepalives alone asks nothing for longer than that.
    pub idle_limit: Duration,
    /// How long the first whole request may take from the moment at which a connection was
    /// accepted. 30 s by default: a client asks at once, and five retransmissions take less.
    pub first_request_limit: Duration,
    /// How long the rest of a message may take, and how long a client may leave its answers
    /// unread. 30 s by default: a message is one packet, and five retransmissions of it take
    /// less.
    pub partial_limit: Duration,
    /// The key by which reflexive tokens are made. None are made without.
    pub token_key: Option<TokenKey>,
    /// Who is told of each sighting of somebody who shows a commitment. Nobody by default.
    pub witness: Option<Witness>,
    /// Who takes the connections whose first byte is that of a TLS handshake, see
    /// [`tls_connections`]. Nobody by default: it breaks STUN.
    pub tls: Option<mpsc::Sender<TlsConnection>>,
    /// How many times clients are connected back to at a time, each for 2 s at most; 0 for none.
    /// 512 by default, of which one IPv4 address or IPv6 /48 gets a fifth, and less the more others
    /// have. What is asked beyond is answered without.
    pub max_connect_backs: usize,
    /// Over what the server is asked; TCP alone by default.
    pub transports: StunTransports,
    /// Other addresses of this host, each with a port that differs as well: each goes with the one
    /// address of its family that the server listens on, and both ports are listened on at both, so
    /// that clients find out how their NAT behaves (RFC 5780). None by default.
    pub alternates: Vec<SocketAddr>,
    /// By which addresses others know this host's, where something in front of it translates them
    /// one to one. Answers name the alternates by these. None by default.
    pub known_as: BTreeMap<IpAddr, IpAddr>,
    /// The datagrams per second of one IPv4 address or IPv6 /64 that are answered in the long run;
    /// an IPv6 /48 gets four times as many. 128 by default: a dozen calls by WebRTC that begin in
    /// each second, or 1,280 clients that ask every 10 s, and 16 KiB a second for whoever is
    /// flooded by way of this server. What comes faster is not answered.
    pub datagrams_per_second: u32,
    /// How many of them may come at once. 1,024 by default, whose answers have 140 KiB.
    pub datagram_burst: u32,
    /// How long a reflexive token is valid. 10 minutes by default: holders get a new one every
    /// 15 s, and a NAT may give the address to somebody else after the connection has ended.
    pub token_validity: Duration,
    /// The SOFTWARE attribute of responses (RFC 8489 section 14.14), at most 127 characters of
    /// it. None by default, which tells an attacker nothing.
    pub software: Option<String>,
    /// The host that serves; the operating system by default.
    pub host: Host,
}

impl Default for StunServerConfig {
    fn default() -> Self {
        Self {
            max_connections: 40_960,
            max_connections_per_address: 4_096,
            requests_per_second: 256,
            request_burst: 24_576,
            idle_limit: Duration::from_secs(4 * 60 * 60),
            first_request_limit: Duration::from_secs(30),
            partial_limit: Duration::from_secs(30),
            token_key: None,
            witness: None,
            tls: None,
            max_connect_backs: 512,
            transports: StunTransports::default(),
            alternates: Vec::new(),
            known_as: BTreeMap::new(),
            datagrams_per_second: 128,
            datagram_burst: 1024,
            token_validity: Duration::from_secs(10 * 60),
            software: None,
            host: Host::default(),
        }
    }
}

impl StunServerConfig {
    /// Returns what others are told of a place.
    fn known(&self, place: Place) -> Place {
        place.map(|ip| self.known_as.get(&ip).copied().unwrap_or(ip))
    }
}

/// What all connections of a server share.
#[derive(Debug)]
struct Shared {
    config: StunServerConfig,
    limits: Mutex<Limits>,
    datagram_limits: Mutex<DatagramLimits>,
    counts: Counts,
    quads: Vec<Quad>,
    /// Those that a client can be connected back from.
    addresses: Vec<IpAddr>,
}

impl Shared {
    fn limits(&self) -> MutexGuard<'_, Limits> {
        // The counters stay usable whatever the panicking thread was doing.
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn datagram_limits(&self) -> MutexGuard<'_, DatagramLimits> {
        let limits = self.datagram_limits.lock();
        limits.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the four addresses that one belongs to, if it does.
    fn quad_of(&self, address: SocketAddr) -> Option<Quad> {
        let mut quads = self.quads.iter();
        quads.find(|it| it.all().contains(&address)).copied()
    }
}

/// A STUN server that keeps each connection as long as its client does, and answers datagrams where
/// that is asked for.
#[derive(Debug)]
pub struct StunServer {
    ports: Ports,
    shared: Arc<Shared>,
}

impl StunServer {
    /// Listens on each of `addresses`; port 0 takes a free one. IPv6 addresses are IPv6 only, but
    /// for UDP at all addresses, which serves IPv4 as well.
    ///
    /// # Errors
    ///
    /// [`ListenError`]: which address cannot be had, or that an alternate goes with none or
    /// several.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn bind(addresses: &[SocketAddr], config: StunServerConfig) -> Result<Self, ListenError> {
        let mut ports = Ports::bind(addresses, &config)?;
        let concrete = ports.addresses.iter().map(SocketAddr::ip);
        let datagram_limits =
            DatagramLimits::new(config.datagrams_per_second, config.datagram_burst);
        let shared = Shared {
            limits: Mutex::new(Limits::new(&config)),
            datagram_limits: Mutex::new(datagram_limits),
            counts: Counts::default(),
            quads: std::mem::take(&mut ports.quads),
            addresses: concrete.filter(|ip| !ip.is_unspecified()).collect(),
            config,
        };
        Ok(Self {
            ports,
            shared: Arc::new(shared),
        })
    }

    /// Returns the addresses that it listens on, in the order of `bind`, and those that alternates
    /// add.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.ports.addresses
    }

    /// Returns what clients at an address are told to be the other one, if there is one.
    #[must_use]
    pub fn other_address(&self, address: SocketAddr) -> Option<SocketAddr> {
        let quad = self.shared.quad_of(address)?;
        Some(self.shared.config.known(quad.place(address)).other)
    }

    /// Returns what measures this server while it serves.
    #[must_use]
    pub fn meter(&self) -> StunMeter {
        StunMeter::new(Arc::clone(&self.shared))
    }

    /// Returns what serves connections that come to others.
    #[must_use]
    pub fn taker(&self) -> StunTaker {
        StunTaker(Arc::clone(&self.shared))
    }

    /// Serves until the future is dropped, which closes all sockets and connections.
    ///
    /// Neither a client nor a failing accept ends it.
    pub async fn run(self) {
        let mut sockets = JoinSet::new();
        for listener in self.ports.listeners {
            sockets.spawn(accept::run(listener, Arc::clone(&self.shared)));
        }
        let datagrams: Arc<[_]> = self.ports.datagrams.into();
        for index in 0..datagrams.len() {
            let (datagrams, shared) = (Arc::clone(&datagrams), Arc::clone(&self.shared));
            sockets.spawn(udp::run(index, datagrams, shared));
        }
        while sockets.join_next().await.is_some() {}
    }

    /// Serves in the background until the handle is dropped.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use = "dropping the handle ends the server"]
    pub fn spawn(self) -> StunServerHandle {
        let addresses = self.ports.addresses.clone();
        let shared = Arc::clone(&self.shared);
        let mut task = JoinSet::new();
        task.spawn(self.run());
        StunServerHandle {
            addresses,
            shared,
            task,
        }
    }
}

/// Serves connections that come to others than a server, within the server's limits.
#[derive(Debug, Clone)]
pub struct StunTaker(Arc<Shared>);

impl StunTaker {
    /// Serves a connection that comes from `remote` until it ends, or does not if there is no room.
    pub async fn serve(&self, stream: impl Stream, remote: SocketAddr) {
        serve::run_over(stream, remote, Arc::clone(&self.0)).await;
    }
}

/// A server that runs in the background. Dropping it ends the server.
#[derive(Debug)]
pub struct StunServerHandle {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    task: JoinSet<()>,
}

impl StunServerHandle {
    /// Returns the addresses that it listens on, in the order of `bind`.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns how many connections there are now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.limits().connections()
    }

    /// Closes all sockets and connections and waits until they are closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the server just as well, without waiting.
    pub async fn shutdown(mut self) {
        self.task.shutdown().await;
    }
}
