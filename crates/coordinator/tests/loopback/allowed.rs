//! A coordinator that serves some peers alone, and what an operator changes while it serves.

use std::collections::BTreeSet;

use p2pconnect_coordinator::{Coordinator, Limits, ServiceLimits};
use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::{
    COORDINATION_ALPN, PeerId, close,
    message::{DialPolicy, RefusalReason},
};
use quinn::ConnectionError;

use crate::{
    IPV4, STRANGER,
    client::{Client, bounded, connect_with, quic_config},
    config,
};

/// Waits until a client is told that it is not served, in words that have its id.
async fn assert_not_served(client: &Client) {
    let (code, reason) = client.closed().await;
    assert_eq!(code, u64::from(close::NOT_SERVED), "{reason}");
    let told = "this coordinator does not serve this peer id: ";
    assert!(reason.starts_with(told), "{reason}");
    assert!(reason.contains(&client.id.to_string()), "{reason}");
}

fn these(peers: &[PeerId]) -> Option<BTreeSet<PeerId>> {
    Some(peers.iter().copied().collect())
}

#[tokio::test]
async fn who_is_not_allowed_is_told_so_until_an_operator_allows_it() {
    let key = SecretKey::generate().unwrap();
    let mut config = config(IPV4);
    config.allowed = these(&[key.peer_id()]);
    let coordinator = Coordinator::bind(config).unwrap();
    let control = coordinator.control();
    let server = coordinator.start();

    let member = Client::connect_as(&key, &server).await;
    member.register(DialPolicy::Anyone).await;
    let stranger = Client::connect(&server).await;
    assert_not_served(&stranger).await;

    let other = SecretKey::generate().unwrap();
    assert_eq!(
        control.set_allowed(these(&[key.peer_id(), other.peer_id()])),
        0
    );
    let other = Client::connect_as(&other, &server).await;
    other.dial(member.id).await.unwrap();

    assert_eq!(control.set_allowed(these(&[other.id])), 1);
    assert_not_served(&member).await;
    other.dial_until_offline(member.id).await;
    assert_eq!(control.set_allowed(None), 0);
    Client::connect(&server).await.welcome().await;
}

#[tokio::test]
async fn who_is_not_allowed_gets_no_more_attempts_than_places() {
    let mut config = config(IPV4);
    config.allowed = these(&[]);
    config.service.max_connections_per_source = 3;
    let server = Coordinator::bind(config).unwrap().start();
    let key = SecretKey::generate().unwrap();
    let tls = || quic_config(client_config(&key, server.server_id(), COORDINATION_ALPN).unwrap());
    for _ in 0..3 {
        assert_not_served(&Client::connect_as(&key, &server).await).await;
    }
    let (_endpoint, fourth) = connect_with(tls(), server.local_addr()).await;
    assert!(
        matches!(&fourth, Err(ConnectionError::ConnectionClosed(_))),
        "{fourth:?}"
    );
}

#[tokio::test]
async fn limits_change_while_a_coordinator_serves() {
    let coordinator = Coordinator::bind(config(IPV4)).unwrap();
    let control = coordinator.control();
    let server = coordinator.start();
    let client = Client::connect(&server).await;
    assert_eq!(client.dial(STRANGER).await, Err(RefusalReason::Unavailable));
    let limits = Limits {
        dial_burst_per_peer: 0,
        ..Limits::default()
    };
    let service = ServiceLimits {
        max_connections_per_source: 1,
        ..ServiceLimits::default()
    };
    control.set_limits(limits, service);
    assert_eq!(client.dial(STRANGER).await, Err(RefusalReason::TooMany));
    let tls = quic_config(
        client_config(
            &SecretKey::generate().unwrap(),
            server.server_id(),
            COORDINATION_ALPN,
        )
        .unwrap(),
    );
    let (_endpoint, second) = bounded(connect_with(tls, server.local_addr())).await;
    assert!(second.is_err());
    control.set_limits(Limits::default(), ServiceLimits::default());
    assert_eq!(client.dial(STRANGER).await, Err(RefusalReason::Unavailable));
}
