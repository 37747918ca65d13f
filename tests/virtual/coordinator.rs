//! What is in the place of a coordinator, and says what it likes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use p2pconnect::{CoordinatorAddr, SecretKey};
use p2pconnect_identity::server_config;
use p2pconnect_proto::COORDINATION_ALPN;
use p2pconnect_tests::virtual_ground::VirtualGround;
use quinn::{Connection, EndpointConfig, crypto::rustls::QuicServerConfig};
use tokio::task::JoinSet;

/// Where it is.
const PORT: u16 = 4433;

/// Serves on the host `b`, each connection in this way, until what is returned is dropped.
pub(crate) fn serve_on_b<F: Future<Output = ()> + Send + 'static>(
    ground: &VirtualGround,
    serve: impl Fn(Connection) -> F + Send + 'static,
) -> (CoordinatorAddr, JoinSet<()>) {
    let key = SecretKey::generate().unwrap();
    let tls = server_config(&key, None, COORDINATION_ALPN).unwrap();
    let quic = Arc::new(QuicServerConfig::try_from(tls).unwrap());
    let config = quinn::ServerConfig::with_crypto(quic);
    let host = ground.programs.host("b", 1);
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let socket = host.udp_socket(any, None).unwrap();
    let endpoint = host.quic_endpoint(socket, EndpointConfig::default(), Some(config));
    let endpoint = endpoint.unwrap();
    let ip = ground.programs.with(|world| {
        let host = world.find_host("b").unwrap();
        world.addresses(host)[0]
    });
    let address = CoordinatorAddr::at(key.peer_id(), (ip, PORT).into());
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut serving = JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            if let Ok(connection) = incoming.await {
                serving.spawn(serve(connection));
            }
        }
    });
    (address, task)
}
