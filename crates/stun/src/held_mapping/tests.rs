//! Tests of mappings that are held, lost and found again.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use p2pconnect_host::{Host, Sharing, TcpListener, TcpSocket, TcpStream};
use p2pconnect_proto::{PeerId, TokenKey};
use tokio::{io::AsyncWriteExt, time::timeout};

use super::*;
use crate::{
    Commitment, StunServer, StunServerConfig,
    framing::{FrameError, MessageReader},
    own,
    parse::parse,
    query,
};

mod fake;

use fake::FakeServer;

/// Above anything that loopback needs on a loaded machine.
const LONG: Duration = Duration::from_secs(20);

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn public(port: u16) -> SocketAddr {
    ([203, 0, 113, 7], port).into()
}

/// Reconnects within milliseconds and asks only when told to.
fn quick() -> MappingConfig {
    MappingConfig {
        refresh_interval: LONG,
        min_reconnect_delay: Duration::from_millis(5),
        max_reconnect_delay: Duration::from_millis(20),
        ..MappingConfig::default()
    }
}

async fn next(held: &mut HeldMapping) -> MappingEvent {
    timeout(LONG, held.next_event()).await.unwrap().unwrap()
}

/// Opens a mapping at `server`, which sees it at `mapped`.
async fn open(
    server: &FakeServer,
    mapped: SocketAddr,
    config: MappingConfig,
) -> (HeldMapping, MessageReader<TcpStream>) {
    let (held, connection) = tokio::join!(
        HeldMapping::open(any_port(), server.address(), config),
        server.accept_and_answer(mapped)
    );
    (held.unwrap(), connection)
}

#[tokio::test]
async fn a_real_server_maps_and_attests() {
    let peer = PeerId::from_public_key([7; 32]);
    let key = TokenKey::from_bytes([1; 32]);
    let config = StunServerConfig {
        token_key: Some(key.clone()),
        ..StunServerConfig::default()
    };
    let server = StunServer::bind(&[any_port()], config).unwrap().spawn();
    let config = MappingConfig {
        commitment: Some(Commitment::new([2; 16], &peer)),
        ..MappingConfig::default()
    };
    let address = server.local_addrs()[0];

    let held = HeldMapping::open(any_port(), address, config)
        .await
        .unwrap();

    let mapping = held.current();
    assert_eq!(mapping.mapped, mapping.local);
    assert_eq!(mapping.server, address);
    let token = mapping.token.unwrap();
    assert!(key.verify(&token, &peer, mapping.mapped, token.expires_at));
    assert!(!key.verify(&token, &peer, public(1), token.expires_at));
    assert_eq!(server.connections(), 1);
    // From the held port, while it is held.
    let seen = query(&Host::default(), mapping.local, address, LONG).await;
    assert_eq!(
        seen,
        Err(MappingError::Bind(io::ErrorKind::AddrNotAvailable)),
        "the pair of addresses is in use"
    );
    server.shutdown().await;
}

#[tokio::test]
async fn a_query_from_the_held_port_asks_another_server_port() {
    let server = StunServer::bind(&[any_port(), any_port()], StunServerConfig::default())
        .unwrap()
        .spawn();
    let [one, other] = *server.local_addrs() else {
        panic!("two addresses were asked for");
    };
    let held = HeldMapping::open(any_port(), one, MappingConfig::default())
        .await
        .unwrap();
    let local = held.current().local;
    assert_eq!(query(&Host::default(), local, other, LONG).await, Ok(local));
    // It has left no TIME_WAIT behind.
    assert_eq!(query(&Host::default(), local, other, LONG).await, Ok(local));
}

#[tokio::test]
async fn it_asks_again_and_again_on_the_same_connection() {
    let server = FakeServer::start();
    let config = MappingConfig {
        refresh_interval: Duration::from_millis(5),
        ..MappingConfig::default()
    };
    let (held, mut connection) = open(&server, public(5), config).await;
    let mut states = held.subscribe();
    for _ in 0..10 {
        let request = fake::read(&mut connection).await;
        fake::answer(&mut connection, &request, public(5)).await;
        // An answer that is the same as before shows that the mapping still is.
        timeout(LONG, states.changed()).await.unwrap().unwrap();
    }
    assert_eq!(held.state().reconnects, 0);
}

#[tokio::test]
async fn a_closing_server_is_reconnected_to_from_the_same_port() {
    for (reset, expected) in [(false, MappingError::Closed), (true, MappingError::Reset)] {
        let server = FakeServer::start();
        let (mut held, connection) = open(&server, public(5), quick()).await;
        let local = held.current().local;
        fake::close(connection, reset);
        let connection = server.accept_and_answer(public(5)).await;
        assert_eq!(fake::peer(&connection), local);
        let mut events = vec![next(&mut held).await];
        if events[0] == (MappingEvent::Lost { error: expected }) {
            events.push(next(&mut held).await);
        }
        assert_eq!(events.pop(), Some(MappingEvent::Mapped(held.current())));
        assert_eq!(held.state().reconnects, 1);
    }
}

/// A machine that has moved connects again, and the server is not to know it.
#[tokio::test]
async fn each_connection_shows_another_commitment() {
    let server = FakeServer::start();
    let config = MappingConfig {
        commitment: Some(Commitment::new([2; 16], &PeerId::from_public_key([7; 32]))),
        ..quick()
    };
    let accept = async {
        let mut connection = server.accept().await;
        let request = fake::read(&mut connection).await;
        fake::answer(&mut connection, &request, public(5)).await;
        let shown = own::find(&parse(&request).unwrap(), own::Kind::Commitment);
        (connection, shown.unwrap())
    };
    let opening = HeldMapping::open(any_port(), server.address(), config);
    let (_held, (connection, first)) = tokio::join!(opening, accept);
    fake::close(connection, true);
    let mut again = server.accept().await;
    let request = fake::read(&mut again).await;
    let second = own::find(&parse(&request).unwrap(), own::Kind::Commitment);
    assert_ne!(second.unwrap(), first);
}

#[tokio::test]
async fn requests_are_pipelined_and_answers_may_come_in_any_order() {
    let server = FakeServer::start();
    let (mut held, mut connection) = open(&server, public(5), quick()).await;
    let mut requests = Vec::new();
    for _ in 0..3 {
        held.refresh();
        requests.push(fake::read(&mut connection).await);
    }
    for (request, port) in requests.iter().rev().zip(6..) {
        fake::answer(&mut connection, request, public(port)).await;
        match next(&mut held).await {
            MappingEvent::MappingChanged { old, new } => {
                assert_eq!((old, new.mapped), (public(port - 1), public(port)));
            }
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(held.current().mapped, public(8));
}

#[tokio::test]
async fn an_answer_to_nothing_that_was_asked_changes_nothing() {
    let server = FakeServer::start();
    let (mut held, mut connection) = open(&server, public(5), quick()).await;
    let (_, never_sent) = crate::binding::request(None);
    fake::answer(&mut connection, &never_sent, public(66)).await;
    held.refresh();
    let request = fake::read(&mut connection).await;
    fake::answer(&mut connection, &request, public(6)).await;
    fake::answer(&mut connection, &request, public(67)).await;
    match next(&mut held).await {
        MappingEvent::MappingChanged { old, new } => {
            assert_eq!((old, new.mapped), (public(5), public(6)));
        }
        event => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn a_server_that_says_no_end_of_things_is_left() {
    let server = FakeServer::start();
    let config = MappingConfig {
        request_timeout: Duration::from_millis(500),
        ..quick()
    };
    // A message that is announced and never whole, and as many whole ones as there is room for.
    let unfinished = [&[1, 1, 4, 0, 0x21, 0x12, 0xA4, 0x42][..], &[0; 500]].concat();
    let indication = [&[0, 0x11, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[0; 12]].concat();
    let floods = [
        (unfinished, MappingError::NoAnswer),
        (indication.repeat(1_000), MappingError::MalformedAnswer),
    ];
    for (said, expected) in floods {
        let (mut held, mut connection) = open(&server, public(5), config.clone()).await;
        connection.get_mut().write_all(&said).await.unwrap();
        held.refresh();
        let MappingEvent::Lost { error } = next(&mut held).await else {
            panic!("{expected} is not noticed");
        };
        assert_eq!(error, expected);
    }
}

#[tokio::test]
async fn a_mapping_that_changed_with_the_connection_is_reported() {
    let server = FakeServer::start();
    let (mut held, connection) = open(&server, public(5), quick()).await;
    fake::close(connection, true);
    let _connection = server.accept_and_answer(public(9)).await;
    let mut event = next(&mut held).await;
    if matches!(event, MappingEvent::Lost { .. }) {
        event = next(&mut held).await;
    }
    let new = held.current();
    assert_eq!(new.mapped, public(9));
    let old = public(5);
    assert_eq!(event, MappingEvent::MappingChanged { old, new });
}

#[tokio::test]
async fn a_silent_server_is_left_and_tried_again() {
    let server = FakeServer::start();
    let config = MappingConfig {
        request_timeout: Duration::from_millis(50),
        ..quick()
    };
    let (mut held, mut connection) = open(&server, public(5), config).await;
    let local = held.current().local;
    held.refresh();
    fake::read(&mut connection).await;
    let event = next(&mut held).await;
    let error = MappingError::NoAnswer;
    assert_eq!(event, MappingEvent::Lost { error });
    // The new connection may be silent too; one that answers is kept.
    loop {
        let mut again = server.accept().await;
        assert_eq!(fake::peer(&again), local);
        let request = fake::read(&mut again).await;
        fake::answer(&mut again, &request, public(5)).await;
        if next(&mut held).await == MappingEvent::Mapped(held.current()) {
            break;
        }
    }
}

/// Waits until the server of a mapping is found to be gone.
async fn refused(held: &mut HeldMapping) {
    let error = MappingError::Refused;
    let gone = MappingEvent::Lost { error };
    while next(held).await != gone {}
}

#[tokio::test]
async fn a_server_that_is_gone_is_reported_and_found_again() {
    let server = FakeServer::start();
    let (mut held, connection) = open(&server, public(5), quick()).await;
    let port = server.stop();
    fake::close(connection, true);
    refused(&mut held).await;
    assert_eq!(held.state().lost, Some(MappingError::Refused));
    let server = FakeServer::restart(port);
    let _connection = server.accept_and_answer(public(5)).await;
    assert_eq!(next(&mut held).await, MappingEvent::Mapped(held.current()));
}

#[tokio::test]
async fn a_lost_connection_is_made_again_at_once_when_that_is_asked_for() {
    let server = FakeServer::start();
    let config = MappingConfig {
        min_reconnect_delay: LONG * 2,
        max_reconnect_delay: LONG * 2,
        ..quick()
    };
    let (mut held, connection) = open(&server, public(5), config).await;
    let port = server.stop();
    fake::close(connection, true);
    refused(&mut held).await;
    let server = FakeServer::restart(port);
    held.refresh();
    let _connection = server.accept_and_answer(public(5)).await;
    assert_eq!(next(&mut held).await, MappingEvent::Mapped(held.current()));
}

#[tokio::test]
async fn dropping_it_resets_the_connection() {
    let server = FakeServer::start();
    let (held, mut connection) = open(&server, public(5), quick()).await;
    drop(held);
    let error = timeout(LONG, connection.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_first_failure_says_what_is_wrong() {
    let unused = FakeServer::start().stop();
    let gone = unused.local_addr().unwrap();
    assert_eq!(
        query(&Host::default(), any_port(), gone, LONG).await,
        Err(MappingError::Refused)
    );
    let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
    let error = query(&Host::default(), foreign, gone, LONG)
        .await
        .unwrap_err();
    assert_eq!(error, MappingError::Bind(io::ErrorKind::AddrNotAvailable));
    assert!(error.is_local());

    let not_stun = MappingError::NotStun(FrameError::FirstByte(b'H'));
    let soon = Duration::from_millis(100);
    for (says, request_timeout, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], LONG, not_stun),
        (b"", soon, MappingError::NoAnswer),
        (
            b"\x01\x01\x00\x04\x21\x12\xa4\x42abcdefghijkl\x00\x20\x00\x40",
            LONG,
            MappingError::MalformedAnswer,
        ),
    ] {
        let server = FakeServer::start();
        let config = MappingConfig {
            request_timeout,
            ..quick()
        };
        let serve = async {
            let mut connection = server.accept().await;
            fake::read(&mut connection).await;
            connection.get_mut().write_all(says).await.unwrap();
            connection
        };
        let (held, _connection) = tokio::join!(
            HeldMapping::open(any_port(), server.address(), config),
            serve
        );
        assert_eq!(held.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn a_server_that_takes_no_connection_times_out() {
    let listener = Host::default().shared_listener(any_port(), 0).unwrap();
    let address = listener.local_addr().unwrap();
    // Linux completes one connection more than the backlog and then ignores SYNs.
    let _occupant = tokio::net::TcpStream::connect(address).await.unwrap();
    let config = MappingConfig {
        connect_timeout: Duration::from_millis(100),
        ..quick()
    };
    let held = HeldMapping::open(any_port(), address, config).await;
    assert_eq!(held.unwrap_err(), MappingError::ConnectTimedOut);
}

#[test]
fn events_lead_from_one_state_to_another_without_skipping_a_change() {
    let before = MappingState {
        mapping: Mapping {
            local: any_port(),
            server: any_port(),
            mapped: public(5),
            token: None,
        },
        lost: None,
        reconnects: 0,
    };
    let now = MappingState {
        mapping: Mapping {
            mapped: public(6),
            ..before.mapping.clone()
        },
        lost: Some(MappingError::Reset),
        reconnects: 3,
    };
    let mut seen = before.clone();
    let mut events = Vec::new();
    while let Some(event) = advance(&mut seen, now.clone()) {
        events.push(event);
    }
    assert_eq!(
        events,
        [
            MappingEvent::MappingChanged {
                old: public(5),
                new: now.mapping.clone()
            },
            MappingEvent::Lost {
                error: MappingError::Reset
            }
        ]
    );
    assert_eq!(advance(&mut before.clone(), before), None);
}
