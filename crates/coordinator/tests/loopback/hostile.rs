//! Clients that break the protocol.

use std::{sync::Arc, time::Duration};

use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::{
    COORDINATION_ALPN, PEER_ALPN, close, codec,
    message::{
        DialPolicy, DialRequest, Extensions, RefusalReason, Registered, Registration, Request,
        Response,
    },
};
use quinn::{ConnectionError, ReadError, ReadToEndError, VarInt};
use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use tokio::task::JoinSet;

use crate::{
    IPV4, STRANGER,
    client::{Client, bounded, connect_with, quic_config},
    config, start,
};

fn good_frame() -> Vec<u8> {
    codec::encode(&Request::Dial(DialRequest::new(STRANGER))).unwrap()
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// Byte sequences that no client of this protocol sends.
fn violations() -> Vec<(&'static str, Vec<u8>)> {
    let good = good_frame();
    let body = good[codec::HEADER_LEN..].to_vec();
    let endless_list = {
        // Request::Register, then the length of the candidates.
        frame(&[0, 0, 255, 255])
    };
    vec![
        ("an HTTP request", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("an empty frame", vec![0; 4]),
        ("a frame too long", u32::MAX.to_be_bytes().to_vec()),
        ("half a header", vec![0, 0]),
        ("half a frame", good[..good.len() - 1].to_vec()),
        ("an endless list", endless_list),
        (
            "bytes behind the message",
            frame(&[&body[..], &[0]].concat()),
        ),
        ("bytes behind the frame", [&good[..], &[0]].concat()),
        ("two frames", [&good[..], &good[..]].concat()),
    ]
}

#[tokio::test]
async fn a_violation_closes_its_own_connection_only() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    let dialler = Client::connect(&server).await;
    for (what, bytes) in violations() {
        let hostile = Client::connect(&server).await;
        hostile.register(DialPolicy::Anyone).await;
        // A good frame may be answered before what follows it is seen.
        drop(hostile.send(&bytes).await);
        let (code, reason) = hostile.closed().await;
        assert_eq!(code, u64::from(close::PROTOCOL_VIOLATION), "{what}");
        assert!(!reason.is_empty(), "{what}");
    }
    dialler.dial(callee.id).await.unwrap();
    assert_eq!(callee.introduction().await.peer, dialler.id);
}

#[tokio::test]
async fn requests_that_are_given_up_disturb_nothing() {
    let server = start(config(IPV4));
    let client = Client::connect(&server).await;
    for _ in 0..20 {
        let (mut send, recv) = bounded(client.connection.open_bi()).await.unwrap();
        send.finish().unwrap();
        drop((send, recv));

        let (mut send, recv) = bounded(client.connection.open_bi()).await.unwrap();
        bounded(send.write_all(&good_frame()[..7])).await.unwrap();
        send.reset(VarInt::from_u32(close::DONE)).unwrap();
        drop((send, recv));
    }
    assert_eq!(client.dial(STRANGER).await, Err(RefusalReason::Unavailable));
}

#[tokio::test]
async fn a_request_that_never_comes_whole_is_given_up() {
    let server = start(config(IPV4));
    let client = Client::connect(&server).await;
    let (mut send, mut recv) = bounded(client.connection.open_bi()).await.unwrap();
    bounded(send.write_all(&good_frame()[..7])).await.unwrap();
    let code = VarInt::from_u32(close::TIMED_OUT);
    let error = bounded(recv.read_to_end(0)).await.unwrap_err();
    assert_eq!(error, ReadToEndError::Read(ReadError::Reset(code)));
    assert_eq!(bounded(send.stopped()).await, Ok(Some(code)));
    assert_eq!(client.dial(STRANGER).await, Err(RefusalReason::Unavailable));
}

#[tokio::test]
async fn a_request_is_answered_before_its_stream_ends() {
    let server = start(config(IPV4));
    let client = Client::connect(&server).await;
    let (mut send, mut recv) = bounded(client.connection.open_bi()).await.unwrap();
    bounded(send.write_all(&good_frame())).await.unwrap();
    let answer = bounded(recv.read_to_end(codec::MAX_BODY)).await.unwrap();
    assert!(!answer.is_empty());
    send.finish().unwrap();
    assert_eq!(client.connection.close_reason(), None);
}

#[tokio::test]
async fn a_server_with_another_key_is_not_talked_to() {
    let server = start(config(IPV4));
    let key = SecretKey::generate().unwrap();
    let config = quic_config(client_config(&key, STRANGER, COORDINATION_ALPN).unwrap());
    let (_endpoint, connection) = connect_with(config, server.local_addr()).await;
    assert!(
        matches!(&connection, Err(ConnectionError::TransportError(_))),
        "{connection:?}"
    );
    Client::connect(&server).await;
}

#[tokio::test]
async fn another_protocol_is_turned_away() {
    let server = start(config(IPV4));
    let key = SecretKey::generate().unwrap();
    let config = quic_config(client_config(&key, server.server_id(), PEER_ALPN).unwrap());
    let (_endpoint, connection) = connect_with(config, server.local_addr()).await;
    assert!(
        matches!(&connection, Err(ConnectionError::ConnectionClosed(_))),
        "{connection:?}"
    );
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_client_without_identity_is_turned_away() {
    let server = start(config(IPV4));
    let key = SecretKey::generate().unwrap();
    let mut tls = client_config(&key, server.server_id(), COORDINATION_ALPN).unwrap();
    tls.client_auth_cert_resolver = Arc::new(NoCertificate);
    let (_endpoint, connection) = connect_with(quic_config(tls), server.local_addr()).await;
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    let end = match connection {
        Ok(connection) => bounded(connection.closed()).await,
        Err(error) => error,
    };
    assert!(
        matches!(end, ConnectionError::ConnectionClosed(_)),
        "{end:?}"
    );
}

#[tokio::test]
async fn half_sent_requests_take_little() {
    let mut config = config(IPV4);
    config.service.max_unfinished_per_source = 256 << 10;
    let server = start(config);
    let mut hostile = Vec::new();
    let mut streams = JoinSet::new();
    for _ in 0..2 {
        let client = Client::connect(&server).await;
        for _ in 0..8 {
            let (mut send, recv) = bounded(client.connection.open_bi()).await.unwrap();
            let half = [&60_000_u32.to_be_bytes()[..], &[0; 59_000]].concat();
            streams.spawn(async move {
                let written = send.write_all(&half).await;
                (written, send.stopped().await, recv)
            });
        }
        hostile.push(client);
    }
    let overloaded = VarInt::from_u32(close::OVERLOADED);
    let is_stopped = bounded(async {
        while let Some(ended) = streams.join_next().await {
            if ended.unwrap().1 == Ok(Some(overloaded)) {
                return true;
            }
        }
        false
    });
    assert!(is_stopped.await);
    assert_eq!(hostile[0].connection.close_reason(), None);
}

/// Where a packet comes from may be forged, and where the client was may be somebody else's by now.
#[tokio::test]
async fn an_address_that_a_client_has_left_shows_nothing() {
    let mut config = config(IPV4);
    config.service.idle_timeout = Duration::from_secs(1);
    let server = start(config);
    let client = Client::connect(&server).await;
    let register = Request::Register(Registration {
        serial: 1,
        candidates: client.candidates(),
        ..Registration::new(DialPolicy::Anyone)
    });
    let registered = Response::Registered(Registered {
        unproven: vec![],
        extensions: Extensions::default(),
    });
    assert_eq!(client.request(&register).await, registered);
    let elsewhere = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
    client.endpoint.rebind(elsewhere).unwrap();
    let answer = client.send(&codec::encode(&register).unwrap()).await;
    // By whichever side forgets the connection first.
    let is_over = matches!(
        answer,
        Err(ConnectionError::TimedOut | ConnectionError::Reset)
    );
    assert!(is_over, "{answer:?}");
}
