//! What a coordinator sends to addresses from which packets seem to come: somebody else may have forged that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_coordinator::RunningCoordinator;
use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::COORDINATION_ALPN;
use quinn_proto::EndpointConfig;
use tokio::{net::UdpSocket, time::timeout};

use crate::{
    IPV4,
    client::{bounded, quic_config},
    config, start,
};

/// Where somebody is who has nothing to do with all this.
const VICTIM: &str = "127.0.0.2:0";

/// How often it is looked whether a coordinator has forgotten a connection.
const LOOK: Duration = Duration::from_millis(50);

/// Starts a coordinator that soon forgets a connection of which nothing is heard, though not before all packets
/// are repeated that may be.
fn forgetful() -> RunningCoordinator {
    let mut config = config(IPV4);
    config.service.idle_timeout = Duration::from_secs(2);
    start(config)
}

/// Makes the first datagram of a connection, as every client sends it.
fn initial(server: &RunningCoordinator) -> Vec<u8> {
    let key = SecretKey::generate().unwrap();
    let tls = client_config(&key, server.server_id(), COORDINATION_ALPN).unwrap();
    let mut endpoint =
        quinn_proto::Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
    let now = Instant::now();
    let connecting = endpoint.connect(now, quic_config(tls), server.local_addr(), "p2pconnect");
    let (_, mut connection) = connecting.unwrap();
    let mut datagram = Vec::new();
    let transmit = connection.poll_transmit(now, 1, &mut datagram).unwrap();
    assert_eq!(transmit.size, datagram.len());
    datagram
}

/// Counts the bytes that come to a socket until a coordinator knows of no connection any more.
async fn taken_until_forgotten(socket: &UdpSocket, server: &RunningCoordinator) -> usize {
    let mut taken = 0;
    let mut buffer = [0; 2048];
    bounded(async {
        loop {
            match timeout(LOOK, socket.recv(&mut buffer)).await {
                Ok(bytes) => taken += bytes.unwrap(),
                Err(_) if server.connections() == 0 => return taken,
                Err(_) => {}
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_forged_initial_brings_three_times_its_bytes_at_most() {
    let server = forgetful();
    let forged = initial(&server);
    let victim = UdpSocket::bind(VICTIM).await.unwrap();
    victim.send_to(&forged, server.local_addr()).await.unwrap();
    bounded(victim.readable()).await.unwrap();
    let taken = taken_until_forgotten(&victim, &server).await;
    assert!(taken <= 3 * forged.len(), "{taken} for {}", forged.len());
}
