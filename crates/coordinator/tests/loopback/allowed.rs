//! A coordinator that serves some peers alone, and what an operator changes while it serves.

use p2pconnect_coordinator::{Coordinator, Limits, Members, ServiceLimits};
use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::{
    COORDINATION_ALPN, InviteSecret, PeerId, close, codec,
    message::{DialPolicy, DialRequest, RefusalReason, Request},
};
use quinn::ConnectionError;

use crate::{
    IPV4, STRANGER,
    client::{Client, bounded, connect_with, quic_config},
    config, start,
};

/// Waits until a client is told that it is not served, in words that have its id.
async fn assert_not_served(client: &Client) {
    let (code, reason) = client.closed().await;
    assert_eq!(code, u64::from(close::NOT_SERVED), "{reason}");
    let told = "this coordinator does not serve this peer id: ";
    assert!(reason.starts_with(told), "{reason}");
    assert!(reason.contains(&client.id.to_string()), "{reason}");
}

fn these(peers: &[PeerId]) -> Members {
    Members {
        allowed: Some(peers.iter().copied().collect()),
        invites: Vec::new(),
    }
}

#[tokio::test]
async fn who_is_not_allowed_is_told_so_until_an_operator_allows_it() {
    let key = SecretKey::generate().unwrap();
    let mut config = config(IPV4);
    config.members = these(&[key.peer_id()]);
    let coordinator = Coordinator::bind(config).unwrap();
    let control = coordinator.control();
    let server = coordinator.start();

    let member = Client::connect_as(&key, &server).await;
    member.register(DialPolicy::Anyone).await;
    let stranger = Client::connect(&server).await;
    assert_not_served(&stranger).await;

    let other = SecretKey::generate().unwrap();
    assert_eq!(
        control.set_members(these(&[key.peer_id(), other.peer_id()])),
        0
    );
    let other = Client::connect_as(&other, &server).await;
    other.dial(member.id).await.unwrap();

    assert_eq!(control.set_members(these(&[other.id])), 1);
    assert_not_served(&member).await;
    other.dial_until_offline(member.id).await;
    assert_eq!(control.set_members(Members::default()), 0);
    Client::connect(&server).await.welcome().await;
}

fn secret(text: &str) -> InviteSecret {
    InviteSecret::new(text).unwrap()
}

fn invited_by(secret: &InviteSecret) -> Members {
    Members {
        allowed: Some([STRANGER].into()),
        invites: vec![secret.clone()],
    }
}

#[tokio::test]
async fn who_knows_a_secret_is_served_until_it_is_withdrawn() {
    let [known, other] = ["correct-horse-battery", "another-horse-battery"].map(secret);
    let mut config = config(IPV4);
    config.members = invited_by(&known);
    let coordinator = Coordinator::bind(config).unwrap();
    let control = coordinator.control();
    let server = coordinator.start();
    let id = server.server_id();

    let guest = Client::connect(&server).await;
    guest.prove(known.prove(&id, &guest.id)).await;
    guest.register(DialPolicy::Anyone).await;
    // Again, which is of no use and does no harm.
    guest.prove(known.prove(&id, &guest.id)).await;
    guest.welcome().await;

    // Another secret, somebody else's proof, one for another coordinator, and none at all.
    for proof in [
        other.prove(&id, &guest.id),
        known.prove(&id, &guest.id),
        known.prove(&guest.id, &guest.id),
    ] {
        let stranger = Client::connect(&server).await;
        stranger.prove(proof).await;
        assert_not_served(&stranger).await;
    }
    let stranger = Client::connect(&server).await;
    let dial = Request::Dial(DialRequest::new(guest.id));
    drop(stranger.send(&codec::encode(&dial).unwrap()).await);
    assert_not_served(&stranger).await;

    assert_eq!(control.set_members(invited_by(&known)), 0);
    assert_eq!(control.set_members(invited_by(&other)), 1);
    assert_not_served(&guest).await;
    let guest = Client::connect(&server).await;
    guest.prove(other.prove(&id, &guest.id)).await;
    guest.welcome().await;
}

#[tokio::test]
async fn a_proof_is_waited_for_and_not_for_ever() {
    let mut config = config(IPV4);
    config.members = invited_by(&secret("correct-horse-battery"));
    let server = start(config);
    let stranger = Client::connect(&server).await;
    assert_not_served(&stranger).await;
}

#[tokio::test]
async fn who_is_not_allowed_gets_no_more_attempts_than_places() {
    let mut config = config(IPV4);
    config.members = these(&[]);
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
