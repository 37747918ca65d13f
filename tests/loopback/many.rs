//! Many peers of one endpoint.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use p2pconnect::{Connection, DialError, DialPolicy, Endpoint, PeerId, Status};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use crate::world::{World, assert_carries};

/// Peers of one endpoint: more than the coordinator introduces at a time, and more than a
/// listener's queues hold.
const PEERS: usize = 200;

/// Connections that there may be from one endpoint to another.
const ROOM: usize = 68;

/// How long they may take together: a busy machine makes hundreds of handshakes slowly.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many endpoints start at a time: that is not what is tested, and costs most.
const STARTING: usize = 10;

/// Binds so many endpoints that others may dial.
async fn peers(world: &World) -> Vec<Arc<Endpoint>> {
    let mut peers = Vec::new();
    while peers.len() < PEERS {
        let mut binding = JoinSet::new();
        for _ in 0..STARTING {
            binding.spawn(world.builder().allow(DialPolicy::Anyone).bind());
        }
        let bound = binding.join_all().await;
        peers.extend(bound.into_iter().map(|it| Arc::new(it.unwrap())));
    }
    peers
}

/// Takes in one connection for each peer.
async fn accept_all(hub: Arc<Endpoint>) -> Vec<Connection> {
    let mut accepted = Vec::new();
    for _ in 0..PEERS {
        accepted.push(hub.accept().await.unwrap());
    }
    accepted
}

/// Sends each peer's own id through its connection, and back.
async fn assert_all_carry(mut ours: Vec<Connection>, mut theirs: Vec<(PeerId, Connection)>) {
    assert_eq!(ours.len(), PEERS);
    ours.sort_by_key(Connection::peer_id);
    theirs.sort_by_key(|(peer, _)| *peer);
    for (here, (peer, there)) in ours.iter_mut().zip(&mut theirs) {
        assert_eq!(here.peer_id(), *peer, "each peer has one connection");
        assert_carries(here, there, peer.to_string().as_bytes()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_dial_one_endpoint_at_once() {
    let world = World::start();
    let hub = Arc::new(world.listener().await);
    let peers = peers(&world).await;

    let accepting = tokio::spawn(accept_all(Arc::clone(&hub)));
    let mut dialling = JoinSet::new();
    for peer in peers.iter().map(Arc::clone) {
        let hub = hub.peer_id();
        dialling.spawn(async move {
            (
                peer.peer_id(),
                peer.dial_within(hub, PATIENCE).await.unwrap(),
            )
        });
    }
    let theirs = dialling.join_all().await;
    let ours = timeout(PATIENCE, accepting).await.unwrap();
    assert_all_carry(ours.unwrap(), theirs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_endpoint_dials_hundreds_at_once() {
    let world = World::start();
    let hub = Arc::new(world.dialler().await);
    let peers = peers(&world).await;

    let mut echoing = JoinSet::new();
    let mut dialling = JoinSet::new();
    for peer in peers.iter().map(Arc::clone) {
        let (hub, id) = (Arc::clone(&hub), peer.peer_id());
        echoing.spawn(echo(peer));
        dialling.spawn(async move { timeout(PATIENCE, dial_and_hear(&hub, id)).await.unwrap() });
    }
    let ours = dialling.join_all().await;
    let reached: BTreeSet<_> = ours.iter().map(Connection::peer_id).collect();
    assert_eq!(reached.len(), PEERS);
}

/// Sends back whatever comes.
async fn echo(endpoint: Arc<Endpoint>) {
    let mut streams = JoinSet::new();
    while let Some(stream) = endpoint.accept().await {
        streams.spawn(async move {
            let (mut from, mut to) = tokio::io::split(stream);
            // The dialler's bytes, or their absence, tell what came of it.
            drop(tokio::io::copy(&mut from, &mut to).await);
        });
    }
}

/// Dials, and hears the peer say its own id again. A stream may be used before the peer has
/// answered on it, and must not be lost for that.
async fn dial_and_hear(hub: &Endpoint, peer: PeerId) -> Connection {
    let mut stream = hub.dial_within(peer, PATIENCE).await.unwrap();
    let sent = peer.to_string();
    let mut heard = vec![0; sent.len()];
    stream.write_all(sent.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, sent.as_bytes());
    stream
}

/// As behind a carrier's NAT.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_that_start_at_one_address_find_out_all_there_is() {
    const NEIGHBOURS: usize = 100;
    let world = World::start_with_default_limits();
    let mut starting = JoinSet::new();
    for _ in 0..NEIGHBOURS {
        let (found, mut finding) = mpsc::channel(1);
        let tell = move |status| {
            if let Status::NatFound { report } = status {
                found.try_send(report).unwrap();
            }
        };
        let binding = world.builder().allow(DialPolicy::Anyone).observer(tell);
        starting.spawn(async move {
            let endpoint = binding.bind().await.unwrap();
            let report = timeout(PATIENCE, finding.recv()).await.unwrap().unwrap();
            (endpoint, report)
        });
    }
    // All of them stay until the last one is done.
    let started = starting.join_all().await;
    for (_, report) in &started {
        assert!(report.filtering.is_some(), "{report:?}");
    }
    // The server may not have seen the end of the last questions yet.
    assert!(world.stun_connections() >= 2 * NEIGHBOURS);
}

#[tokio::test]
async fn one_peer_is_dialled_until_there_is_no_room() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    let mut streams = Vec::new();
    for _ in 0..ROOM {
        streams.push(World::connect(&dialler, &listener).await);
    }
    let error = dialler.dial(listener.peer_id()).await.unwrap_err();
    assert!(matches!(error, DialError::TooManyConnections), "{error:?}");

    drop(streams.swap_remove(7));
    streams.push(World::connect(&dialler, &listener).await);
    for (here, there) in &mut streams {
        assert_carries(here, there, b"one of many").await;
        assert_carries(there, here, b"and back").await;
    }
}
