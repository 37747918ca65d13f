//! Two endpoints that dial each other at the same moment.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use p2pconnect::{Connection, DialError, DialPolicy, Endpoint, Status};
use tokio::{task::AbortHandle, time::timeout};

use crate::world::{World, assert_carries};

/// How often two endpoints dial each other.
const TIMES: usize = 60;

async fn two(world: &World) -> (Endpoint, Endpoint) {
    tokio::join!(world.listener(), world.listener())
}

async fn dial_each_other(one: &Endpoint, other: &Endpoint) -> (Connection, Connection) {
    let (here, there) = tokio::join!(one.dial(other.peer_id()), other.dial(one.peer_id()));
    (here.unwrap(), there.unwrap())
}

async fn assert_are_ends_of_one(here: &mut Connection, there: &mut Connection) {
    let (near, far) = (here.path(), there.path());
    assert_eq!((near.local, near.remote), (far.remote, far.local));
    assert_carries(here, there, b"one way").await;
    assert_carries(there, here, b"and the other").await;
}

/// Asserts that nobody has been accepted who was not taken in.
async fn assert_nobody_waits(endpoint: &Endpoint) {
    assert!(timeout(Duration::ZERO, endpoint.accept()).await.is_err());
}

/// An endpoint that ends a task when it is introduced to a peer.
async fn aborting(world: &World, task: &Arc<Mutex<Option<AbortHandle>>>) -> Endpoint {
    let task = Arc::clone(task);
    let builder = world.builder().allow(DialPolicy::Anyone);
    let abort = move |status| {
        if matches!(status, Status::Introduced { .. }) {
            task.lock()
                .unwrap()
                .take()
                .iter()
                .for_each(AbortHandle::abort);
        }
    };
    builder.observer(abort).bind().await.unwrap()
}

#[tokio::test]
async fn two_dials_that_cross_make_one_connection() {
    let world = World::start();
    for _ in 0..TIMES {
        let (one, other) = two(&world).await;
        let (mut here, mut there) = dial_each_other(&one, &other).await;
        assert_are_ends_of_one(&mut here, &mut there).await;
        for endpoint in [&one, &other] {
            assert_nobody_waits(endpoint).await;
            let metrics = endpoint.metrics();
            assert_eq!((metrics.established, metrics.failed), (1, 0));
            assert_eq!(metrics.introduced, 1);
        }
    }
}

#[tokio::test]
async fn the_same_two_endpoints_may_cross_again() {
    let world = World::start();
    let (one, other) = two(&world).await;
    let mut streams = Vec::new();
    for established in 1..=3 {
        streams.push(dial_each_other(&one, &other).await);
        assert_eq!(one.metrics().established, established);
        assert_eq!(other.metrics().established, established);
    }
    for (here, there) in &mut streams {
        assert_are_ends_of_one(here, there).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dials_at_about_the_same_time_make_one_connection_or_two() {
    let world = World::start();
    for _ in 0..TIMES {
        let (one, other) = two(&world).await;
        let (one, other) = (Arc::new(one), Arc::new(other));
        let dial = |from: &Arc<Endpoint>, to: &Endpoint| {
            let (from, to) = (Arc::clone(from), to.peer_id());
            tokio::spawn(async move { from.dial(to).await.unwrap() })
        };
        let (here, there) = tokio::join!(dial(&one, &other), dial(&other, &one));
        let (mut here, mut there) = (here.unwrap(), there.unwrap());
        let (near, far) = (here.path(), there.path());
        if (near.local, near.remote) == (far.remote, far.local) {
            assert_are_ends_of_one(&mut here, &mut there).await;
        } else {
            let accepted = tokio::join!(one.accept(), other.accept());
            assert_are_ends_of_one(&mut here, &mut accepted.1.unwrap()).await;
            assert_are_ends_of_one(&mut accepted.0.unwrap(), &mut there).await;
        }
        assert_nobody_waits(&one).await;
        assert_nobody_waits(&other).await;
    }
}

#[tokio::test]
async fn a_dial_back_makes_a_connection_of_its_own() {
    let world = World::start();
    let (one, other) = two(&world).await;
    for _ in 0..2 {
        let (mut dialled, mut accepted) = World::connect(&one, &other).await;
        let (back, taken) = tokio::join!(other.dial(one.peer_id()), one.accept());
        assert_are_ends_of_one(&mut back.unwrap(), &mut taken.unwrap()).await;
        assert_are_ends_of_one(&mut dialled, &mut accepted).await;
    }
}

#[tokio::test]
async fn a_dial_that_crosses_one_that_is_given_up_connects() {
    let world = World::start();
    let task = Arc::default();
    let (one, other) = tokio::join!(world.listener(), aborting(&world, &task));
    let (one, id) = (Arc::new(one), other.peer_id());
    let dialler = Arc::clone(&one);
    let dialling = tokio::spawn(async move { dialler.dial(id).await });
    *task.lock().unwrap() = Some(dialling.abort_handle());
    let (dialled, given_up) = tokio::join!(other.dial(one.peer_id()), dialling);
    assert!(given_up.unwrap_err().is_cancelled());
    let accepted = one.accept().await;
    assert_are_ends_of_one(&mut dialled.unwrap(), &mut accepted.unwrap()).await;
}

#[tokio::test]
async fn what_a_dial_that_is_given_up_has_crossed_can_be_accepted() {
    let world = World::start();
    let task = Arc::default();
    let (one, other) = tokio::join!(world.listener(), aborting(&world, &task));
    let (other, id) = (Arc::new(other), one.peer_id());
    let dialler = Arc::clone(&other);
    let dialling = tokio::spawn(async move { dialler.dial(id).await });
    *task.lock().unwrap() = Some(dialling.abort_handle());
    let (dialled, accepted) = tokio::join!(one.dial(other.peer_id()), other.accept());
    assert!(dialling.await.unwrap_err().is_cancelled());
    assert_are_ends_of_one(&mut dialled.unwrap(), &mut accepted.unwrap()).await;
}

#[tokio::test]
async fn a_dial_of_somebody_who_does_not_admit_us_crosses_nothing() {
    let world = World::start();
    let closed = world.builder().allow(DialPolicy::Only(Vec::new()));
    let (one, other) = tokio::join!(closed.bind(), world.listener());
    let one = one.unwrap();
    let (dialled, refused, accepted) = tokio::join!(
        one.dial(other.peer_id()),
        other.dial(one.peer_id()),
        other.accept()
    );
    assert!(matches!(refused, Err(DialError::Unavailable { .. })));
    assert_are_ends_of_one(&mut dialled.unwrap(), &mut accepted.unwrap()).await;
}
