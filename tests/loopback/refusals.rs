//! Dials that the coordinator refuses.

use std::time::Duration;

use p2pconnect::{CoordinatorError, DialError, DialPolicy, SecretKey};

use tokio::time::timeout;

use crate::world::World;

#[tokio::test]
async fn an_unknown_peer_is_not_online() {
    let world = World::start();
    let dialler = world.dialler().await;
    let stranger = SecretKey::generate().unwrap().peer_id();
    let error = dialler.dial(stranger).await.unwrap_err();
    assert!(matches!(error, DialError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_peer_that_only_dials_is_not_online() {
    let world = World::start();
    let (one, other) = tokio::join!(world.dialler(), world.dialler());
    let error = one.dial(other.peer_id()).await.unwrap_err();
    assert!(matches!(error, DialError::Unavailable { .. }), "{error:?}");
    assert!(other.accept().await.is_none());
}

#[tokio::test]
async fn only_the_peers_named_may_dial() {
    let world = World::start();
    let friend = SecretKey::generate().unwrap();
    let policy = DialPolicy::Only(vec![friend.peer_id()]);
    let listener = world.builder().allow(policy).bind().await.unwrap();

    let stranger = world.dialler().await;
    let error = stranger.dial(listener.peer_id()).await.unwrap_err();
    assert!(matches!(error, DialError::Unavailable { .. }), "{error:?}");

    let friend = world.builder().secret_key(friend).bind().await.unwrap();
    World::connect(&friend, &listener).await;
}

#[tokio::test]
async fn nobody_dials_itself() {
    let world = World::start();
    let listener = world.listener().await;
    let error = listener.dial(listener.peer_id()).await.unwrap_err();
    assert!(matches!(error, DialError::OwnId), "{error:?}");
}

#[tokio::test]
async fn a_closed_endpoint_is_gone_at_once() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    let id = listener.peer_id();
    listener.close().await;
    let error = dialler.dial(id).await.unwrap_err();
    assert!(matches!(error, DialError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn the_newer_of_two_endpoints_with_one_key_stays() {
    let world = World::start();
    let key = SecretKey::generate().unwrap();
    let again = SecretKey::from_pem(&key.to_pem()).unwrap();
    let listener = |key| world.builder().secret_key(key).allow(DialPolicy::Anyone);
    let older = listener(key).bind().await.unwrap();
    let newer = listener(again).bind().await.unwrap();

    let limit = Duration::from_secs(5);
    let nobody_comes = timeout(limit, older.accept()).await.unwrap();
    assert!(nobody_comes.is_none());
    let dialler = world.dialler().await;
    World::connect(&dialler, &newer).await;
    let error = older.dial(dialler.peer_id()).await.unwrap_err();
    assert!(
        matches!(error, DialError::Coordinator(CoordinatorError::Replaced)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_dial_without_a_limit_has_one() {
    let world = World::start();
    let dialler = world.dialler().await;
    let stranger = SecretKey::generate().unwrap().peer_id();
    let dialling = dialler.dial_within(stranger, Duration::MAX);
    let error = dialling.await.unwrap_err();
    assert!(matches!(error, DialError::Unavailable { .. }), "{error:?}");
}
