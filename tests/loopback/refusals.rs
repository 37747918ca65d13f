use p2pconnect::{CoordinatorError, DialError, DialPolicy, Refusal, SecretKey};

use crate::world::World;

#[tokio::test]
async fn an_unknown_peer_is_not_online() {
    let world = World::start();
    let dialler = world.dialler().await;
    let stranger = SecretKey::generate().unwrap().peer_id();
    let error = dialler.dial(stranger).await.unwrap_err();
    assert!(matches!(error, DialError::NotOnline), "{error:?}");
}

#[tokio::test]
async fn a_peer_that_only_dials_is_not_online() {
    let world = World::start();
    let (one, other) = tokio::join!(world.dialler(), world.dialler());
    let error = one.dial(other.peer_id()).await.unwrap_err();
    assert!(matches!(error, DialError::NotOnline), "{error:?}");
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
    assert!(matches!(error, DialError::NotAllowed), "{error:?}");

    let friend = world.builder().secret_key(friend).bind().await.unwrap();
    World::connect(&friend, &listener).await;
}

#[tokio::test]
async fn nobody_dials_itself() {
    let world = World::start();
    let listener = world.listener().await;
    let error = listener.dial(listener.peer_id()).await.unwrap_err();
    assert!(
        matches!(
            error,
            DialError::Coordinator(CoordinatorError::Refused(Refusal::OwnId))
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_closed_endpoint_is_gone_at_once() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    let id = listener.peer_id();
    listener.close().await;
    let error = dialler.dial(id).await.unwrap_err();
    assert!(matches!(error, DialError::NotOnline), "{error:?}");
}
