//! What a coordinator sends to addresses from which packets seem to come: somebody else may have
//! forged that.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use p2pconnect_coordinator::RunningCoordinator;
use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::{
    COORDINATION_ALPN,
    message::{DialPolicy, RefusalReason},
};
use quinn_proto::EndpointConfig;
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

use crate::{
    IPV4,
    client::{Client, bounded, quic_config},
    config, start,
};

/// Where somebody is who has nothing to do with all this.
const VICTIM: &str = "127.0.0.2:0";

/// How often it is looked whether a coordinator has forgotten a connection.
const LOOK: Duration = Duration::from_millis(50);

/// Starts a coordinator that soon forgets a connection of which nothing is heard, though not before
/// all packets are repeated that may be.
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

/// The way of one client to a server, by way of somebody who keeps what the client sends.
struct Detour {
    entrance: Arc<UdpSocket>,
    exit: Arc<UdpSocket>,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    passing: JoinSet<()>,
}

impl Detour {
    async fn to(server: SocketAddr) -> Self {
        let entrance = Arc::new(UdpSocket::bind(IPV4).await.unwrap());
        let exit = Arc::new(UdpSocket::bind(IPV4).await.unwrap());
        exit.connect(server).await.unwrap();
        let seen = Arc::default();
        let mut passing = JoinSet::new();
        let ends = (Arc::clone(&entrance), Arc::clone(&exit));
        passing.spawn(pass(ends.0, ends.1, Arc::clone(&seen)));
        Self {
            entrance,
            exit,
            seen,
            passing,
        }
    }

    fn address(&self) -> SocketAddr {
        self.entrance.local_addr().unwrap()
    }
}

async fn pass(entrance: Arc<UdpSocket>, exit: Arc<UdpSocket>, seen: Arc<Mutex<Vec<Vec<u8>>>>) {
    let (mut there, mut back) = ([0; 2048], [0; 2048]);
    let mut client = None;
    loop {
        tokio::select! {
            received = entrance.recv_from(&mut there) => {
                let (bytes, from) = received.unwrap();
                client = Some(from);
                seen.lock().unwrap().push(there[..bytes].to_vec());
                exit.send(&there[..bytes]).await.unwrap();
            }
            received = exit.recv(&mut back) => {
                let sent = entrance.send_to(&back[..received.unwrap()], client.unwrap());
                sent.await.unwrap();
            }
        }
    }
}

/// To follow a connection to another address would be to show that the client receives there, by
/// 1,200 bytes and more for each packet of 40.
#[tokio::test]
async fn packets_of_a_connection_from_another_address_bring_nothing_there() {
    let server = forgetful();
    let mut detour = Detour::to(server.local_addr()).await;
    let key = SecretKey::generate().unwrap();
    let client = Client::connect_via(&key, &server, detour.address()).await;
    client.register(DialPolicy::Anyone).await;

    detour.passing.shutdown().await;
    let victim = UdpSocket::bind(VICTIM).await.unwrap();
    let forging = async {
        let mut datagram = [0; 2048];
        loop {
            let bytes = detour.entrance.recv(&mut datagram).await.unwrap();
            let sent = victim.send_to(&datagram[..bytes], server.local_addr());
            sent.await.unwrap();
        }
    };
    client.connection.send_datagram(Vec::new().into()).unwrap();
    let taken = tokio::select! {
        taken = taken_until_forgotten(&victim, &server) => taken,
        never = forging => never,
    };
    assert_eq!(taken, 0);
}

#[tokio::test]
async fn what_is_sent_again_by_somebody_on_the_path_registers_nobody() {
    let server = start(config(IPV4));
    let detour = Detour::to(server.local_addr()).await;
    let key = SecretKey::generate().unwrap();
    let client = Client::connect_via(&key, &server, detour.address()).await;
    client.register(DialPolicy::Anyone).await;
    client.register(DialPolicy::Only(Vec::new())).await;

    let seen = detour.seen.lock().unwrap().clone();
    let elsewhere = UdpSocket::bind(VICTIM).await.unwrap();
    elsewhere.connect(server.local_addr()).await.unwrap();
    for datagram in &seen {
        detour.exit.send(datagram).await.unwrap();
        elsewhere.send(datagram).await.unwrap();
    }
    let dialler = Client::connect(&server).await;
    assert_eq!(
        dialler.dial(client.id).await,
        Err(RefusalReason::Unavailable)
    );
    // Its connection has taken no harm.
    client.register(DialPolicy::Anyone).await;
    dialler.dial(client.id).await.unwrap();
}
