//! What serves in the process that is measured.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use clap::ValueEnum;
use p2pconnect_coordinator::{Config, Coordinator, Limits, RendezvousPorts, ServiceLimits};
use p2pconnect_identity::{SecretKey, server_config};
use p2pconnect_proto::{COORDINATION_ALPN, CoordinatorAddr, PeerId, TokenKey};
use p2pconnect_stun::StunServerConfig;
use quinn::{
    Connection, Endpoint, ServerConfig, TransportConfig, VarInt, crypto::rustls::QuicServerConfig,
};
use tokio::{io::AsyncReadExt as _, task::JoinSet};

/// After how long without a packet a peer has gone.
const IDLE: Duration = Duration::from_secs(30);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A coordinator.
    Coordinator,
    /// A coordinator with the limits that it has by default.
    Limited,
    /// A coordinator whose peers come by TLS on TCP.
    Tcp,
    /// A QUIC server with the coordinator's limits that only keeps its connections.
    Bare,
    /// The same with the lowest limits that QUIC has.
    Leanest,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coordinator => "coordinator",
            Self::Limited => "coordinator with limits",
            Self::Tcp => "coordinator by TCP",
            Self::Bare => "bare",
            Self::Leanest => "leanest",
        })
    }
}

impl Kind {
    /// Returns the name by which the command line knows it.
    pub(crate) fn argument(self) -> String {
        self.to_possible_value().unwrap().get_name().to_owned()
    }
}

/// Serves until nobody holds the other end of the standard input.
pub(crate) async fn serve(kind: Kind) {
    let key = SecretKey::generate().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    match kind {
        Kind::Coordinator | Kind::Limited => {
            let mut config = Config::new(any, key, TokenKey::from_bytes([7; 32]));
            if kind == Kind::Coordinator {
                (config.service, config.limits) = unlimited();
            }
            let coordinator = Coordinator::bind(config).unwrap();
            announce(coordinator.server_id(), coordinator.local_addr());
            coordinator.run(parent_ends()).await;
        }
        Kind::Tcp => {
            let mut stun = StunServerConfig::default();
            stun.max_connections = 1 << 24;
            stun.max_connections_per_address = 1 << 24;
            stun.request_burst = u32::MAX;
            let token_key = TokenKey::from_bytes([7; 32]);
            let ports = RendezvousPorts::bind(any, &[any], stun, token_key).unwrap();
            let mut config = ports.config(key);
            (config.service, config.limits) = unlimited();
            let rendezvous = ports.coordinate(config).unwrap();
            let coordinator = &rendezvous.coordinator;
            announce(coordinator.server_id(), coordinator.local_addr());
            rendezvous.run(parent_ends()).await;
        }
        Kind::Bare | Kind::Leanest => {
            let tls = server_config(&key, None, COORDINATION_ALPN).unwrap();
            let quic = QuicServerConfig::try_from(tls).unwrap();
            let mut config = ServerConfig::with_crypto(Arc::new(quic));
            config.transport_config(Arc::new(transport(kind)));
            config.migration(false);
            let endpoint = Endpoint::server(config, any).unwrap();
            announce(key.peer_id(), endpoint.local_addr().unwrap());
            tokio::select! {
                () = keep(&endpoint) => {}
                () = parent_ends() => {}
            }
        }
    }
}

/// Keeps every connection until it ends.
async fn keep(endpoint: &Endpoint) {
    let mut kept = JoinSet::new();
    loop {
        tokio::select! {
            Some(incoming) = endpoint.accept() => {
                kept.spawn(async move {
                    let connection: Connection = incoming.await.unwrap();
                    connection.closed().await;
                });
            }
            Some(_) = kept.join_next(), if !kept.is_empty() => {}
            else => return,
        }
    }
}

fn announce(id: PeerId, address: SocketAddr) {
    println!("{}", CoordinatorAddr::at(id, address));
}

async fn parent_ends() {
    let mut read = [0];
    while tokio::io::stdin()
        .read(&mut read)
        .await
        .is_ok_and(|n| n > 0)
    {}
}

/// Returns the coordinator's transport limits, or the lowest ones.
fn transport(kind: Kind) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IDLE.try_into().unwrap()));
    if kind == Kind::Leanest {
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .datagram_receive_buffer_size(None);
    } else {
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(7))
            .stream_receive_window(VarInt::from_u32(16 << 10))
            .receive_window(VarInt::from_u32(32 << 10))
            .send_window(128 << 10)
            .datagram_receive_buffer_size(Some(2048));
    }
    transport
}

fn unlimited() -> (ServiceLimits, Limits) {
    let service = ServiceLimits {
        max_connections: 1 << 24,
        max_connections_per_source: 1 << 24,
        handshakes_before_retry: 1 << 20,
        max_unfinished_per_source: 64 << 20,
        ..ServiceLimits::default()
    };
    let limits = Limits {
        max_peers: 1 << 24,
        dial_burst_per_peer: u32::MAX,
        dial_burst_per_source: u32::MAX,
        relay_burst_per_source: u32::MAX,
        newcomer_burst: u32::MAX,
        ..Limits::default()
    };
    (service, limits)
}
