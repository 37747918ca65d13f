//! What a client may ask for, and how often.

use std::time::Duration;

use p2pconnect_coordinator::{BindError, Coordinator};
use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::{
    COORDINATION_ALPN, Candidate, PunchPort, Puzzle,
    close::{self, Close},
    message::{
        DialPolicy, DialRequest, MAX_ALLOWED_PEERS, MAX_CANDIDATES, MAX_STUN_SERVERS,
        RefusalReason, Registration, Request, Response,
    },
};
use quinn::ConnectionError;

use crate::{
    IPV4, STRANGER, address,
    client::{Client, bounded, connect_with, quic_config},
    config, start,
};

#[tokio::test]
async fn too_long_lists_are_refused_and_the_longest_allowed_are_not() {
    let server = start(config(IPV4));
    let client = Client::connect(&server).await;
    let candidates = |count: usize| {
        (0..count)
            .map(|n| {
                let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
                let ip = [10, 0, high, low];
                Candidate::host((ip, 4000).into(), PunchPort::PRIMARY)
            })
            .collect::<Vec<_>>()
    };
    let register = |candidate_count, peer_count| {
        Request::Register(Registration {
            serial: 1,
            candidates: candidates(candidate_count),
            ..Registration::new(DialPolicy::Only(vec![STRANGER; peer_count]))
        })
    };
    let refused = Response::Refused(RefusalReason::TooLarge.into());
    // As many as a frame holds, too: what they take in memory is this side's matter.
    for count in [MAX_CANDIDATES + 1, 744, 745, 2_000] {
        let too_many_candidates = register(count, 0);
        assert_eq!(
            client.request(&too_many_candidates).await,
            refused,
            "{count}"
        );
    }
    let too_many_peers = register(0, MAX_ALLOWED_PEERS + 1);
    assert_eq!(client.request(&too_many_peers).await, refused);
    let dial = Request::Dial(DialRequest {
        candidates: candidates(MAX_CANDIDATES + 1),
        ..DialRequest::new(STRANGER)
    });
    assert_eq!(client.request(&dial).await, refused);
    let longest = register(MAX_CANDIDATES, MAX_ALLOWED_PEERS);
    let response = client.request(&longest).await;
    assert!(matches!(response, Response::Registered(_)), "{response:?}");
}

#[tokio::test]
async fn a_full_coordinator_says_so_and_lets_the_registered_update() {
    let mut config = config(IPV4);
    config.limits.max_peers = 1;
    let server = start(config);
    let inside = Client::connect(&server).await;
    inside.register(DialPolicy::Anyone).await;
    let outside = Client::connect(&server).await;
    let request = Request::Register(Registration {
        serial: 1,
        ..Registration::new(DialPolicy::Anyone)
    });
    let Response::Refused(refusal) = outside.request(&request).await else {
        panic!("there is room for one");
    };
    assert_eq!(refusal.reason, RefusalReason::Full);
    assert_eq!(refusal.retry_after(), Some(Duration::from_secs(10)));
    inside.register(DialPolicy::Anyone).await;
    outside.dial(inside.id).await.unwrap();
}

#[tokio::test]
async fn dialling_too_fast_is_refused() {
    let mut config = config(IPV4);
    config.limits.dial_burst_per_peer = 2;
    config.limits.dial_interval_per_peer = Duration::from_secs(3600);
    let server = start(config);
    let dialler = Client::connect(&server).await;
    for _ in 0..2 {
        assert_eq!(
            dialler.dial(STRANGER).await,
            Err(RefusalReason::Unavailable)
        );
    }
    assert_eq!(dialler.dial(STRANGER).await, Err(RefusalReason::TooMany));
    let other = Client::connect(&server).await;
    assert_eq!(other.dial(STRANGER).await, Err(RefusalReason::Unavailable));
}

#[tokio::test]
async fn a_peer_that_connects_again_and_again_is_told_when_to_come_back() {
    let server = start(config(IPV4));
    let key = SecretKey::generate().unwrap();
    let mut came = 0;
    let (code, _) = loop {
        let client = Client::connect_as(&key, &server).await;
        if bounded(client.connection.accept_uni()).await.is_err() {
            break client.closed().await;
        }
        client.connection.close(0_u8.into(), &[]);
        came += 1;
        assert!(came < 1_000, "nothing stands in its way");
    };
    let close = Close::from_wire(code);
    assert_eq!(close.code, close::OVERLOADED);
    assert!(close.retry_after.is_some_and(|it| !it.is_zero()));
    assert!(came >= 256, "{came} connections");
    Client::connect(&server).await.welcome().await;
}

#[tokio::test]
async fn who_comes_when_many_do_solves_a_puzzle_once() {
    let mut config = config(IPV4);
    config.limits.newcomer_burst = 1;
    config.limits.newcomer_interval = Duration::from_secs(3600);
    config.limits.puzzle_bits = 8;
    let server = start(config);
    let first = Client::connect(&server).await;
    first.register(DialPolicy::Anyone).await;
    first.register(DialPolicy::Anyone).await;

    let other = Client::connect(&server).await;
    let mut dial = DialRequest::new(first.id);
    let Response::Refused(refusal) = other.request(&Request::Dial(dial.clone())).await else {
        panic!("it has not solved anything");
    };
    assert_eq!(refusal.reason, RefusalReason::TooMany);
    assert!(refusal.retry_after().is_some(), "{refusal}");
    let puzzle = Puzzle::of(&refusal.extensions).unwrap();
    // Somebody else's work is of no use.
    let stolen = puzzle.solve(&first.id, || true).unwrap();
    dial.extensions.0 = vec![stolen.extension()];
    let answer = other.request(&Request::Dial(dial.clone())).await;
    assert!(matches!(answer, Response::Refused(_)), "{answer:?}");
    let solution = puzzle.solve(&other.id, || true).unwrap();
    dial.extensions.0 = vec![solution.extension()];
    let answer = other.request(&Request::Dial(dial)).await;
    assert!(matches!(answer, Response::Introduced(_)), "{answer:?}");
    other.register(DialPolicy::Anyone).await;
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let mut config = config(IPV4);
    config.service.max_connections_per_source = 2;
    let server = start(config);
    // The second has to show its address first, which its QUIC stack does by itself.
    let first = Client::connect(&server).await;
    let second = Client::connect(&server).await;
    let key = SecretKey::generate().unwrap();
    let config = quic_config(client_config(&key, server.server_id(), COORDINATION_ALPN).unwrap());
    let (_endpoint, third) = connect_with(config, server.local_addr()).await;
    assert!(
        matches!(&third, Err(ConnectionError::ConnectionClosed(_))),
        "{third:?}"
    );
    first.register(DialPolicy::Anyone).await;
    second.dial(first.id).await.unwrap();

    drop(second);
    bounded(async {
        loop {
            let config =
                quic_config(client_config(&key, server.server_id(), COORDINATION_ALPN).unwrap());
            if connect_with(config, server.local_addr()).await.1.is_ok() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn unusable_configurations_are_refused() {
    let mut too_many = config(IPV4);
    too_many.stun_servers = vec![address("192.0.2.1:3478"); MAX_STUN_SERVERS + 1];
    let error = Coordinator::bind(too_many).unwrap_err();
    assert!(matches!(error, BindError::TooManyStunServers), "{error}");

    let mut too_long = config(IPV4);
    too_long.service.idle_timeout = Duration::MAX;
    let error = Coordinator::bind(too_long).unwrap_err();
    assert!(matches!(error, BindError::IdleTimeout(_)), "{error}");

    // Nobody's own address: a documentation range.
    let error = Coordinator::bind(config("192.0.2.1:0")).unwrap_err();
    assert!(matches!(error, BindError::Socket { .. }), "{error}");
}

#[tokio::test]
async fn a_callee_that_settles_can_be_dialled_by_many_at_once() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    for _ in 0..20 {
        let dialler = Client::connect(&server).await;
        assert!(dialler.dial(callee.id).await.is_ok());
        let settled = Request::Settled(dialler.id);
        assert_eq!(callee.request(&settled).await, Response::Settled);
    }
}
