//! A STUN server over TCP.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::Witness;
use p2pconnect_host::{Host, KeepAlive, Sharing, TcpListener};
use p2pconnect_proto::TokenKey;
use tokio::task::JoinSet;

mod accept;
pub(crate) mod answer;
mod connect_back;
mod limits;
mod meter;
mod serve;
#[cfg(test)]
mod tests;

use limits::Limits;
use meter::Counts;

pub use meter::StunMeter;

/// The most connections that wait for being accepted: Linux cuts it to `somaxconn`, whose default
/// since 5.4 is this.
const BACKLOG: u32 = 4096;

/// How the system asks whether the other end of a quiet connection still exists. Frees the slots of
/// clients that vanished without a word within half an hour instead of four.
const KEEP_ALIVE: KeepAlive = KeepAlive {
    idle: Duration::from_secs(15 * 60),
    interval: Duration::from_secs(75),
    questions: 9,
};

/// What a connection costs: 3 KiB of this process, and 1.5 KiB of the system's for it while its
/// buffers are empty.
pub const BYTES_PER_CONNECTION: u64 = 5 * 1024;

/// How much the system keeps of what comes over a connection, and of what is sent: many times the
/// longest message. The system doubles it for its own records.
const BUFFER: u32 = 4096;

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
    /// How many times clients are connected back to at a time, each for 2 s at most; 0 for none.
    /// 512 by default, of which one IPv4 address or IPv6 /48 gets a fifth, and less the more others
    /// have. What is asked beyond is answered without.
    pub max_connect_backs: usize,
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
            max_connect_backs: 512,
            token_validity: Duration::from_secs(10 * 60),
            software: None,
            host: Host::default(),
        }
    }
}

/// What all connections of a server share.
#[derive(Debug)]
struct Shared {
    config: StunServerConfig,
    limits: Mutex<Limits>,
    counts: Counts,
    /// Those that a client can be connected back from.
    addresses: Vec<IpAddr>,
}

impl Shared {
    fn limits(&self) -> std::sync::MutexGuard<'_, Limits> {
        // The counters stay usable whatever the panicking thread was doing.
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A STUN server over TCP that keeps each connection as long as its client does.
#[derive(Debug)]
pub struct StunServer {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

impl StunServer {
    /// Listens on each of `addresses`; port 0 takes a free one. IPv6 addresses are IPv6 only.
    ///
    /// # Errors
    ///
    /// What the system reports, above all that a port is in use (`AddrInUse`) or not allowed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn bind(addresses: &[SocketAddr], config: StunServerConfig) -> io::Result<Self> {
        let listeners: Vec<TcpListener> = addresses
            .iter()
            .map(|address| listen(&config.host, *address))
            .collect::<io::Result<_>>()?;
        let addresses: Vec<SocketAddr> = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<io::Result<_>>()?;
        let concrete = addresses.iter().map(SocketAddr::ip);
        let shared = Shared {
            limits: Mutex::new(Limits::new(&config)),
            counts: Counts::default(),
            addresses: concrete.filter(|ip| !ip.is_unspecified()).collect(),
            config,
        };
        Ok(Self {
            listeners,
            addresses,
            shared: Arc::new(shared),
        })
    }

    /// Returns the addresses that it listens on, in the order of `bind`.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns what measures this server while it serves.
    #[must_use]
    pub fn meter(&self) -> StunMeter {
        StunMeter::new(Arc::clone(&self.shared))
    }

    /// Serves until the future is dropped, which closes all listeners and connections.
    ///
    /// Neither a client nor a failing accept ends it.
    pub async fn run(self) {
        let mut listeners = JoinSet::new();
        for listener in self.listeners {
            listeners.spawn(accept::run(listener, Arc::clone(&self.shared)));
        }
        while listeners.join_next().await.is_some() {}
    }

    /// Serves in the background until the handle is dropped.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use = "dropping the handle ends the server"]
    pub fn spawn(self) -> StunServerHandle {
        let addresses = self.addresses.clone();
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

    /// Closes all listeners and connections and waits until they are closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the server just as well, without waiting.
    pub async fn shutdown(mut self) {
        self.task.shutdown().await;
    }
}

/// Listens on a port that is not shared: a second server of the same user would take half of the
/// connections unnoticed.
fn listen(host: &Host, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = host.tcp_socket(address, Sharing::Exclusive)?;
    // The connections that it accepts inherit both.
    socket.keep_alive(KEEP_ALIVE)?;
    socket.limit_buffers(BUFFER)?;
    socket.listen(BACKLOG)
}
