//! How long registrations and connections last.

use std::time::Duration;

use p2pconnect_coordinator::Coordinator;
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{
    close::{self, Close},
    message::{DialPolicy, Request, Response},
};
use quinn::{ConnectionError, VarInt};
use tokio::sync::oneshot;

use crate::{
    IPV4,
    client::{Client, bounded},
    config, start,
};

#[tokio::test]
async fn a_registration_ends_with_its_connection() {
    let mut config = config(IPV4);
    config.limits.dial_burst_per_peer = u32::MAX;
    config.limits.dial_interval_per_peer = Duration::ZERO;
    config.limits.dial_interval_per_source = Duration::ZERO;
    let server = start(config);
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    dialler.dial(callee.id).await.unwrap();
    callee
        .connection
        .close(VarInt::from_u32(close::DONE), b"done");
    dialler.dial_until_offline(callee.id).await;
}

#[tokio::test]
async fn a_silent_client_is_forgotten_after_the_idle_timeout() {
    let mut config = config(IPV4);
    config.service.idle_timeout = Duration::from_millis(200);
    config.limits.dial_interval_per_peer = Duration::ZERO;
    config.limits.dial_interval_per_source = Duration::ZERO;
    let server = start(config);
    let callee = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    let end = bounded(callee.connection.closed()).await;
    assert_eq!(end, ConnectionError::TimedOut);
    let dialler = Client::connect(&server).await;
    dialler.dial_until_offline(callee.id).await;
}

/// RFC 9221 section 3: what is announced is taken.
#[tokio::test]
async fn the_longest_datagram_that_is_announced_breaks_nothing() {
    let server = start(config(IPV4));
    let client = Client::connect(&server).await;
    for length in [0, 992, 993, client.connection.max_datagram_size().unwrap()] {
        let datagram = vec![0; length].into();
        client.connection.send_datagram(datagram).unwrap();
        // The answer comes after the datagram.
        let answer = client.request(&Request::Settled(client.id)).await;
        assert_eq!(answer, Response::Settled, "{length}");
    }
}

#[tokio::test]
async fn empty_datagrams_keep_a_line_alive() {
    let mut config = config(IPV4);
    config.service.idle_timeout = Duration::from_secs(1);
    let server = start(config);
    let client = Client::connect(&server).await;
    client.register(DialPolicy::Anyone).await;
    // Far more than the server keeps, for three times as long as it waits.
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..150 {
        ticks.tick().await;
        client.connection.send_datagram(Default::default()).unwrap();
    }
    assert_eq!(client.connection.close_reason(), None);
    client.register(DialPolicy::Anyone).await;
}

#[tokio::test]
async fn the_newest_registration_replaces_the_older_connection() {
    let server = start(config(IPV4));
    let key = SecretKey::generate().unwrap();
    let dialler = Client::connect(&server).await;
    let older = Client::connect_as(&key, &server).await;
    older.register(DialPolicy::Anyone).await;
    let newer = Client::connect_as(&key, &server).await;
    newer.register(DialPolicy::Anyone).await;
    assert_eq!(older.closed().await.0, u64::from(close::REPLACED));

    let introduction = dialler.dial(newer.id).await.unwrap();
    assert_eq!(introduction.candidates, newer.candidates());
    assert_eq!(newer.introduction().await.peer, dialler.id);
    assert_eq!(newer.connection.close_reason(), None);
}

#[tokio::test]
async fn a_second_connection_that_only_dials_replaces_nothing() {
    let server = start(config(IPV4));
    let key = SecretKey::generate().unwrap();
    let callee = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    let listening = Client::connect_as(&key, &server).await;
    listening.register(DialPolicy::Anyone).await;
    let dialling = Client::connect_as(&key, &server).await;
    dialling.dial(callee.id).await.unwrap();
    drop(dialling);
    callee.dial(listening.id).await.unwrap();
    listening.introduction().await;
}

#[tokio::test]
async fn a_shutdown_tells_every_client() {
    let server = start(config(IPV4));
    let (first, second) = tokio::join!(Client::connect(&server), Client::connect(&server));
    for client in [&first, &second] {
        client.welcome().await;
    }
    bounded(server.shutdown()).await;
    let mut told = Vec::new();
    for client in [first, second] {
        let end = Close::from_wire(client.closed().await.0);
        assert_eq!(end.code, close::GOING_AWAY);
        told.push(end.retry_after.unwrap());
    }
    told.sort_unstable();
    assert_eq!(
        told,
        [500, 501].map(Duration::from_millis),
        "one after the other"
    );
}

#[tokio::test]
async fn dropping_the_handle_ends_the_service() {
    let server = start(config(IPV4));
    let client = Client::connect(&server).await;
    drop(server);
    assert_eq!(client.closed().await.0, u64::from(close::DONE));
}

#[tokio::test]
async fn running_in_the_foreground_ends_when_told() {
    let coordinator = Coordinator::bind(config(IPV4)).unwrap();
    assert_ne!(coordinator.local_addr().port(), 0);
    let (stop, stopped) = oneshot::channel::<()>();
    drop(stop);
    bounded(coordinator.run(async move { drop(stopped.await) })).await;
}
