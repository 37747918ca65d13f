//! Listeners that have no room for another connection.

use std::{sync::Arc, time::Duration};

use p2pconnect::{Connection, DialError, DialPolicy, Endpoint, Status};
use tokio::{sync::mpsc, time::timeout};

use crate::world::{World, assert_carries};

/// Connections that may wait to be accepted.
const ROOM: usize = 64;

/// Connections of one dialler: there are as many pairs of punch ports.
const EACH: usize = 4;

/// How long a dialler asks for room where there is none: for three introductions.
const LIMIT: Duration = Duration::from_secs(3);

const PATIENCE: Duration = Duration::from_secs(30);

/// Dials until nothing more can wait there; returns the connections.
async fn fill(world: &World, listener: &Endpoint) -> Vec<Connection> {
    let mut dialled = Vec::new();
    while dialled.len() < ROOM {
        let dialler = world.dialler().await;
        for _ in 0..EACH {
            dialled.push(dialler.dial(listener.peer_id()).await.unwrap());
        }
    }
    dialled
}

/// Accepts a connection that was dialled, and asserts that it is one.
async fn accept(listener: &Endpoint, dialled: &mut Vec<Connection>) {
    let accepted = timeout(PATIENCE, listener.accept()).await;
    let mut there = accepted.expect("a connection is lost").unwrap();
    let far = there.path();
    let is_other_end = |it: &Connection| {
        let near = it.path();
        (near.local, near.remote) == (far.remote, far.local)
    };
    let place = dialled.iter().position(is_other_end).unwrap();
    let mut here = dialled.swap_remove(place);
    assert_carries(&mut here, &mut there, b"waited").await;
    assert_carries(&mut there, &mut here, b"was waited for").await;
}

#[tokio::test]
async fn whoever_finds_no_room_is_told_and_whoever_has_a_connection_keeps_it() {
    let world = World::start();
    let listener = world.listener().await;
    let mut dialled = fill(&world, &listener).await;
    let dialler = world.dialler().await;
    let error = dialler.dial_within(listener.peer_id(), LIMIT).await;
    let error = error.unwrap_err();
    assert!(matches!(error, DialError::PeerBusy), "{error:?}");
    assert_eq!(listener.metrics().established, ROOM as u64);
    while !dialled.is_empty() {
        accept(&listener, &mut dialled).await;
    }
}

#[tokio::test]
async fn a_dial_waits_until_there_is_room() {
    let world = World::start();
    let listener = world.listener().await;
    let mut dialled = fill(&world, &listener).await;
    let (sender, mut introduced) = mpsc::unbounded_channel();
    let builder = world.builder().observer(move |status| {
        if matches!(status, Status::Introduced { .. }) {
            sender.send(()).unwrap();
        }
    });
    let dialler = Arc::new(builder.bind().await.unwrap());
    let (dialling, peer) = (Arc::clone(&dialler), listener.peer_id());
    let dialling = tokio::spawn(async move { dialling.dial_within(peer, PATIENCE).await });
    // It has been turned away once when it is introduced again.
    for _ in 0..2 {
        timeout(PATIENCE, introduced.recv()).await.unwrap().unwrap();
    }
    accept(&listener, &mut dialled).await;
    dialled.push(dialling.await.unwrap().unwrap());
    while !dialled.is_empty() {
        accept(&listener, &mut dialled).await;
    }
}

#[tokio::test]
async fn a_listener_with_the_streams_that_it_takes_says_that_it_is_busy() {
    let world = World::start();
    let listener = world.builder().allow(DialPolicy::Anyone).max_connections(1);
    let listener = listener.bind().await.unwrap();
    let (dialler, other) = tokio::join!(world.dialler(), world.dialler());
    let (here, there) = World::connect(&dialler, &listener).await;
    let error = other.dial_within(listener.peer_id(), LIMIT).await;
    assert!(matches!(error, Err(DialError::PeerBusy)), "{error:?}");
    // What has been accepted counts until it is dropped.
    drop((here, there));
    World::connect(&other, &listener).await;
}

#[tokio::test]
async fn one_peer_leaves_room_for_the_others() {
    let world = World::start();
    let listener = world.builder().allow(DialPolicy::Anyone).max_connections(4);
    let listener = listener.bind().await.unwrap();
    let (greedy, other) = tokio::join!(world.dialler(), world.dialler());
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(World::connect(&greedy, &listener).await);
    }
    let error = greedy.dial_within(listener.peer_id(), LIMIT).await;
    assert!(matches!(error, Err(DialError::PeerBusy)), "{error:?}");
    held.push(World::connect(&other, &listener).await);
}
