//! A coordinator that dies without a word and comes back, or does not hear a listener that has
//! another address.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use p2pconnect::{CoordinatorAddr, DialPolicy, Endpoint, Status};
use p2pconnect_tests::serving::Serving;
use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet, time::timeout};

use crate::world::{World, address_of, assert_carries};

/// Less than a request that nobody answers and the reconnection after it take, and much less than
/// QUIC's idle timeout.
const LIMIT: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_coordinator_that_was_killed_has_its_listeners_back_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(directory.path()).await;
    let (listener, mut heard) = listener(serving.coordinator.clone()).await;
    serving.kill().await;
    serving.restart().await;
    registered(&mut heard).await;

    let dialler = Endpoint::builder().coordinator(serving.coordinator.clone());
    let dialler = dialler.bind().await.unwrap();
    let (mut here, mut there) = World::connect(&dialler, &listener).await;
    assert_carries(&mut here, &mut there, b"after the coordinator's death").await;
}

/// Returns a listener that has registered, and what it says from then on.
async fn listener(coordinator: CoordinatorAddr) -> (Endpoint, mpsc::UnboundedReceiver<Status>) {
    let (statuses, mut heard) = mpsc::unbounded_channel();
    let listener = Endpoint::builder()
        .coordinator(coordinator)
        .allow(DialPolicy::Anyone)
        .observer(move |status| drop(statuses.send(status)));
    let listener = listener.bind().await.unwrap();
    registered(&mut heard).await;
    (listener, heard)
}

async fn registered(heard: &mut mpsc::UnboundedReceiver<Status>) {
    let registering = async { while !matches!(heard.recv().await, Some(Status::Registered)) {} };
    timeout(LIMIT, registering).await.expect("not registered");
}

/// A NAT that may give its one client another port for the way to the coordinator.
struct Nat {
    inside: SocketAddr,
    /// By which of its ports the client's packets leave.
    port: Arc<AtomicUsize>,
    _passing: JoinSet<()>,
}

impl Nat {
    async fn towards(coordinator: SocketAddr) -> Self {
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let inner = bind().await.unwrap();
        let outer = [bind().await.unwrap(), bind().await.unwrap()];
        for socket in &outer {
            socket.connect(coordinator).await.unwrap();
        }
        let inside = inner.local_addr().unwrap();
        let port = Arc::default();
        let mut passing = JoinSet::new();
        passing.spawn(translate(inner, outer, Arc::clone(&port)));
        Self {
            inside,
            port,
            _passing: passing,
        }
    }
}

async fn translate(inner: UdpSocket, outer: [UdpSocket; 2], port: Arc<AtomicUsize>) {
    let mut client = inner.local_addr().unwrap();
    let [mut out, mut one, mut other] = [[0; 2048]; 3];
    loop {
        let answer = tokio::select! {
            received = inner.recv_from(&mut out) => {
                let (bytes, from) = received.unwrap();
                client = from;
                let outer = &outer[port.load(Ordering::Relaxed)];
                outer.send(&out[..bytes]).await.unwrap();
                continue;
            }
            bytes = outer[0].recv(&mut one) => &one[..bytes.unwrap()],
            bytes = outer[1].recv(&mut other) => &other[..bytes.unwrap()],
        };
        inner.send_to(answer, client).await.unwrap();
    }
}

/// A coordinator does not follow it, since anybody can say that. Only a handshake proves where it
/// is.
#[tokio::test]
async fn a_listener_whose_nat_gives_it_another_port_registers_from_there() {
    let mut world = World::start();
    let nat = Nat::towards(world.coordinator.local_addr()).await;
    let coordinator = address_of(world.coordinator.server_id(), nat.inside);
    let (listener, mut heard) = listener(coordinator).await;
    nat.port.store(1, Ordering::Relaxed);
    // The NAT has forgotten these connections as well. Without that, the next keep-alive would
    // bring it out.
    world.close_stun().await;
    registered(&mut heard).await;

    let dialler = world.dialler().await;
    let (mut here, mut there) = World::connect(&dialler, &listener).await;
    assert_carries(&mut here, &mut there, b"from another port").await;
}
