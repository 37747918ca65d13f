//! A coordinator and a STUN server on free ports of the loopback, and endpoints that know them.

use std::net::{Ipv4Addr, SocketAddr};

use netns_lab::{HostSpec, Lab};
use p2pconnect::{Builder, Connection, CoordinatorAddr, DialPolicy, Endpoint, PeerId, SecretKey};
use p2pconnect_coordinator::{
    Config, Coordinator, Rendezvous, RendezvousPorts, RunningCoordinator,
};
use p2pconnect_proto::TokenKey;
use p2pconnect_stun::{StunServer, StunServerConfig, StunServerHandle};
use p2pconnect_tests::{error_log, settled::block_on};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What `p2pconnect serve` runs, on free ports.
pub(crate) struct World {
    pub(crate) coordinator: RunningCoordinator,
    /// The STUN server that the coordinator names when it is started again.
    pub(crate) stun: SocketAddr,
    key: SecretKey,
    stun_servers: Vec<StunServerHandle>,
    _log: error_log::Watch,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(lift_limits)
    }

    /// Starts a STUN server with the limits that it has by default.
    pub(crate) fn start_with_default_limits() -> Self {
        Self::with(|_| {})
    }

    /// Starts a coordinator that names another STUN server than its own.
    pub(crate) async fn start_with_stun_at(elsewhere: SocketAddr) -> Self {
        let mut world = Self::start();
        world.stun = elsewhere;
        world.restart_coordinator().await;
        world
    }

    fn with(limit: fn(&mut StunServerConfig)) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let key = SecretKey::generate().unwrap();
        let mut stun_config = StunServerConfig::default();
        limit(&mut stun_config);
        let ports = RendezvousPorts::bind(any, &[any], stun_config, token_key()).unwrap();
        let config = ports.config(copy_of(&key));
        let Rendezvous {
            coordinator,
            stun,
            alternates,
            ..
        } = ports.coordinate(config).unwrap();
        let address = stun.local_addrs()[0];
        Self {
            coordinator: coordinator.start(),
            stun: address,
            key,
            stun_servers: [stun]
                .into_iter()
                .chain(alternates)
                .map(StunServer::spawn)
                .collect(),
            _log: error_log::watch(),
        }
    }

    /// Returns how many connections to the STUN servers there are.
    pub(crate) fn stun_connections(&self) -> usize {
        self.stun_servers
            .iter()
            .map(StunServerHandle::connections)
            .sum()
    }

    /// Ends the STUN servers, whose ports refuse connections from now on.
    pub(crate) async fn close_stun(&mut self) {
        for server in self.stun_servers.drain(..) {
            server.shutdown().await;
        }
    }

    /// Ends the coordinator and starts another with the same key and address.
    pub(crate) async fn restart_coordinator(&mut self) {
        let address = self.coordinator.local_addr();
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let coordinator = |address| {
            let mut config = Config::new(address, copy_of(&self.key), token_key());
            config.stun_servers = vec![self.stun];
            Coordinator::bind(config).unwrap().start()
        };
        let stand_in = coordinator(any);
        std::mem::replace(&mut self.coordinator, stand_in)
            .shutdown()
            .await;
        self.coordinator = coordinator(address);
    }

    pub(crate) fn address(&self) -> CoordinatorAddr {
        address_of(self.coordinator.server_id(), self.coordinator.local_addr())
    }

    pub(crate) fn builder(&self) -> Builder {
        Endpoint::builder().coordinator(self.address())
    }

    pub(crate) async fn dialler(&self) -> Endpoint {
        self.builder().bind().await.unwrap()
    }

    pub(crate) async fn listener(&self) -> Endpoint {
        self.builder()
            .allow(DialPolicy::Anyone)
            .bind()
            .await
            .unwrap()
    }

    /// Returns the two ends of a new connection, the dialler's first.
    pub(crate) async fn connect(
        dialler: &Endpoint,
        listener: &Endpoint,
    ) -> (Connection, Connection) {
        let (dialled, accepted) = tokio::join!(dialler.dial(listener.peer_id()), listener.accept());
        (dialled.unwrap(), accepted.unwrap())
    }
}

/// All peers of a test have one address.
fn lift_limits(config: &mut StunServerConfig) {
    config.max_connections_per_address = config.max_connections;
    config.request_burst = u32::MAX;
}

/// Runs a test on a host of its own, where nobody else serves STUN at the port that is looked for
/// first, beside a coordinator.
pub(crate) fn alone(test: impl AsyncFnOnce() + Send) {
    netns_lab::test(|| {
        let lab = Lab::builder().host(HostSpec::new("alone")).build().unwrap();
        lab.host("alone").run(|| block_on(test())).unwrap();
    });
}

fn token_key() -> TokenKey {
    TokenKey::from_bytes([7; 32])
}

fn copy_of(key: &SecretKey) -> SecretKey {
    SecretKey::from_pem(&key.to_pem()).unwrap()
}

pub(crate) fn address_of(id: PeerId, address: SocketAddr) -> CoordinatorAddr {
    CoordinatorAddr::at(id, address)
}

/// Sends `message` one way and its end, and asserts that it arrives.
pub(crate) async fn assert_carries(from: &mut Connection, to: &mut Connection, message: &[u8]) {
    let send = async {
        from.write_all(message).await.unwrap();
        from.shutdown().await.unwrap();
    };
    let receive = async {
        let mut received = Vec::new();
        to.read_to_end(&mut received).await.unwrap();
        received
    };
    let ((), received) = tokio::join!(send, receive);
    assert!(
        received == message,
        "{} of {} bytes came through",
        received.len(),
        message.len()
    );
}
