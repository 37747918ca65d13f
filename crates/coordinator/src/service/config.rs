//! What a coordinator is started with, and why it may not start.

use std::{io, net::SocketAddr, time::Duration};

use p2pconnect_host::Host;
use p2pconnect_identity::SecretKey;
use p2pconnect_link::{SetupError, quic::MAX_IDLE_TIMEOUT};
use p2pconnect_proto::{
    TokenKey,
    message::{MAX_CLUSTER, MAX_STUN_SERVERS},
};
use p2pconnect_stun::Witness;

use crate::{Limits, Members, nodes::Cluster};

/// What the socket keeps of datagrams that have not been read yet: some hundred milliseconds of ten
/// thousand clients that all come back at once. The system may grant less (`net.core.rmem_max`),
/// which is no reason not to serve.
pub(super) const RECEIVE_BUFFER: usize = 8 << 20;

/// What a client costs that asks for much: twice the 32 KiB of one that is registered and quiet.
const BYTES_PER_CONNECTION: u64 = 64 * 1024;

/// What the rest of the process takes: its code, the socket's buffer, handshakes that wait, and
/// tables.
const BYTES_BESIDES: u64 = 32 << 20;

/// What is kept of requests that are not whole however little memory there is: the longest one of
/// each of eight networks, as these share half of it.
const LEAST_UNFINISHED: usize = 1 << 20;

/// Which part of the places those may take, together, that have not shown that they receive what is
/// sent to their address: one for handshakes under way, and as much again for what is left of those
/// that failed.
pub(super) const UNPROVEN_SHARE: usize = 8;

/// Returns how much of a process's memory its clients may take, where it may have so many bytes.
///
/// [`ServiceLimits::within_memory`] gives half of it to connections and an eighth to requests that
/// are not whole. A quarter is for the connections of STUN servers beside the coordinator, and the
/// rest is in reserve.
#[must_use]
pub const fn memory_for_clients(bytes: u64) -> u64 {
    bytes.saturating_sub(BYTES_BESIDES)
}

/// How a coordinator is set up.
#[derive(Debug)]
#[non_exhaustive]
pub struct Config {
    /// The UDP address to serve on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The key whose peer id clients pin.
    pub key: SecretKey,
    /// The key whose place this one has taken. Clients that pin it are served as well, and told of
    /// the new one. None by default.
    pub former_key: Option<SecretKey>,
    /// The secret shared with the STUN servers, which attest addresses with it.
    pub token_key: TokenKey,
    /// The STUN servers that clients are told of, at most [`MAX_STUN_SERVERS`], the preferred
    /// first.
    ///
    /// An unspecified address (`0.0.0.0` or `::`) is this machine's of that family: where a client
    /// has reached it, and for clients that came by the other family the public address that
    /// packets to everybody leave from, if there is one.
    pub stun_servers: Vec<SocketAddr>,
    /// Further addresses that answer STUN, at most [`MAX_STUN_SERVERS`], unspecified ones as above.
    pub stun_alternates: Vec<SocketAddr>,
    /// What the STUN servers in this process have seen, which diallers may claim. None by default.
    pub witness: Option<Witness>,
    /// The other coordinators that serve the same peers. None by default. The key of tokens has to
    /// be [theirs](p2pconnect_proto::nodes::NodeKey::token_key) then.
    pub others: Option<Cluster>,
    /// What the registry does for whom.
    pub limits: Limits,
    /// What the service around it allows.
    pub service: ServiceLimits,
    /// Whom it serves. Everybody by default.
    pub members: Members,
    /// The name of the registry that this coordinator shares with others, [`MAX_CLUSTER`] bytes at
    /// most. Peers that are told the same by two coordinators register at one of them. By default
    /// a name that follows from the key of `others`, or none.
    pub cluster: Option<Vec<u8>>,
    /// The host that serves; the operating system by default.
    pub host: Host,
}

/// How many connections a coordinator keeps, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLimits {
    /// The most connections, those in their handshake included.
    ///
    /// By default 16,384: the registered peers and half as many that only dial, in half a GiB.
    pub max_connections: usize,
    /// The most connections from one IPv4 address or IPv6 /64; four times as many from an IPv6 /48.
    /// When half of all places are taken, each may have a share of the free ones only, so that
    /// there is a place for whoever has none.
    ///
    /// By default 512, since a carrier's NAT puts many subscribers behind one address.
    pub max_connections_per_source: usize,
    /// The handshakes at a time, and at once, above which a client must first show that it receives
    /// what is sent to its address (a Retry packet, RFC 9000 section 8.1.2, one more round trip).
    ///
    /// So many may begin at once, and 64 a second after that, whatever becomes of them.
    ///
    /// By default 128: more than honest clients ever cause together, unless all return at once
    /// after an outage, when a round trip matters little.
    pub handshakes_before_retry: usize,
    /// The most bytes that are kept of requests that are not whole yet.
    ///
    /// By default 64 MiB: a thousand of the longest.
    pub max_unfinished: usize,
    /// The most bytes that are kept of requests from one IPv4 address or IPv6 /48 that are not
    /// whole yet.
    ///
    /// By default 4 MiB: as many connections as one address may have, with four requests of 2 KiB
    /// each.
    pub max_unfinished_per_source: usize,
    /// The time without a packet after which a client counts as gone.
    ///
    /// By default 30 s: two of the clients' keep-alives, which QUIC repeats until acknowledged.
    pub idle_timeout: Duration,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_connections_per_source: 512,
            handshakes_before_retry: 128,
            max_unfinished: 64 << 20,
            max_unfinished_per_source: 4 << 20,
            idle_timeout: Duration::from_secs(30),
        }
    }
}

impl ServiceLimits {
    /// Returns these limits with no more than so many bytes of memory bear, see
    /// [`memory_for_clients`], so that the coordinator refuses clients where the system would end
    /// it.
    ///
    /// One connection is allowed however little there is.
    #[must_use]
    pub fn within_memory(mut self, bytes: u64) -> Self {
        let number = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
        let bytes = memory_for_clients(bytes);
        let places = number(bytes / 2 / BYTES_PER_CONNECTION).max(1);
        self.max_connections = self.max_connections.min(places);
        let unproven = (self.max_connections / UNPROVEN_SHARE).max(1);
        self.handshakes_before_retry = self.handshakes_before_retry.min(unproven);
        let unfinished = number(bytes / 8).max(LEAST_UNFINISHED);
        self.max_unfinished = self.max_unfinished.min(unfinished);
        self
    }
}

impl Config {
    /// Returns a configuration with the default limits that announces no STUN server.
    #[must_use]
    pub fn new(listen: SocketAddr, key: SecretKey, token_key: TokenKey) -> Self {
        Self {
            listen,
            key,
            former_key: None,
            token_key,
            stun_servers: Vec::new(),
            stun_alternates: Vec::new(),
            witness: None,
            others: None,
            limits: Limits::default(),
            service: ServiceLimits::default(),
            members: Members::default(),
            cluster: None,
            host: Host::default(),
        }
    }

    /// Returns the key, and the one whose place it has taken.
    pub(super) fn keys(&self) -> impl Iterator<Item = &SecretKey> {
        [&self.key].into_iter().chain(&self.former_key)
    }

    pub(super) fn check(&self) -> Result<(), BindError> {
        if self.service.idle_timeout > MAX_IDLE_TIMEOUT {
            return Err(BindError::IdleTimeout(self.service.idle_timeout));
        }
        if self.stun_servers.len() > MAX_STUN_SERVERS
            || self.stun_alternates.len() > MAX_STUN_SERVERS
        {
            return Err(BindError::TooManyStunServers);
        }
        if self
            .cluster
            .as_ref()
            .is_some_and(|it| it.len() > MAX_CLUSTER)
        {
            return Err(BindError::LongCluster);
        }
        Ok(())
    }
}

/// Why a coordinator cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The idle timeout is longer than QUIC can express.
    #[error("the idle timeout of {0:?} is too long")]
    IdleTimeout(Duration),
    /// The name of the shared registry is too long.
    #[error("the name of a cluster has more than {MAX_CLUSTER} bytes")]
    LongCluster,
    /// The address cannot be listened on.
    #[error("the UDP address {address} cannot be listened on")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// The system gives no randomness.
    #[error("no randomness from the system")]
    Randomness(#[source] io::Error),
    /// The transport cannot be set up.
    #[error(transparent)]
    Transport(#[from] SetupError),
    /// There are more STUN servers than a message holds.
    #[error("more than {MAX_STUN_SERVERS} STUN servers of one kind")]
    TooManyStunServers,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_has_fewer_places_and_no_machine_has_none() {
        let places = |mib: u64| {
            let limits = ServiceLimits::default().within_memory(mib << 20);
            limits.max_connections
        };
        assert_eq!(places(1 << 20), ServiceLimits::default().max_connections);
        assert_eq!(places(640), 4_864);
        assert_eq!(places(64), 256);
        assert_eq!(places(32), 1);
        assert_eq!(places(0), 1);
    }
}
