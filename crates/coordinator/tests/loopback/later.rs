//! Peers of a later version, which say what this coordinator does not know (PROTOCOL.md section
//! 10).

use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::{
    COORDINATION_ALPN, codec,
    message::{
        DialPolicy, DialRequest, Extension, Extensions, MAX_EXTENSIONS, MAX_PEER_EXTENSIONS,
        RefusalReason, Registration, Request, Response, Unknown, Unsupported,
    },
};

use quinn::crypto::rustls::HandshakeData;

use crate::{
    IPV4,
    client::{Client, connect_with, quic_config},
    config, start,
};

/// The number of something that no version knows.
const NEW: u16 = 0x6B6B;

/// The same for an extension that must not be passed over.
const REQUIRED: u16 = 0xEB6B;

fn extensions(kind: u16, many: usize) -> Extensions {
    let value = vec![1, 2, 3];
    Extensions(vec![Extension { kind, value }; many])
}

fn unsupported(what: Unsupported) -> RefusalReason {
    RefusalReason::Unsupported(what)
}

#[tokio::test]
async fn an_unknown_protocol_may_be_offered_besides() {
    let server = start(config(IPV4));
    let key = SecretKey::generate().unwrap();
    let mut tls = client_config(&key, server.server_id(), COORDINATION_ALPN).unwrap();
    tls.alpn_protocols.insert(0, vec![0x6A, 0x6A]);
    let (_endpoint, connection) = connect_with(quic_config(tls), server.local_addr()).await;
    let used = connection.unwrap().handshake_data().unwrap();
    let used = used.downcast::<HandshakeData>().unwrap().protocol;
    assert_eq!(used.as_deref(), Some(COORDINATION_ALPN));
}

/// Sends a request, and returns why it is refused.
async fn refused(client: &Client, request: Request) -> RefusalReason {
    match client.request(&request).await {
        Response::Refused(refusal) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unknown_request_is_refused_and_the_registration_stays() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    for fields in [vec![], vec![0xFF; 40], vec![0; 60_000]] {
        let request = Request::Unknown(Unknown { kind: NEW, fields });
        let expected = unsupported(Unsupported::Request(NEW));
        assert_eq!(refused(&callee, request).await, expected);
    }
    dialler.dial(callee.id).await.unwrap();
    assert_eq!(callee.introduction().await.peer, dialler.id);
}

#[tokio::test]
async fn an_unknown_policy_is_refused_and_the_former_stays() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let [dialler, other] = [
        Client::connect(&server).await,
        Client::connect(&server).await,
    ];
    callee.register(DialPolicy::Only(vec![dialler.id])).await;
    let request = Request::Register(Registration {
        serial: 2,
        candidates: callee.candidates(),
        ..Registration::new(DialPolicy::Unknown(NEW))
    });
    let expected = unsupported(Unsupported::DialPolicy(NEW));
    assert_eq!(refused(&callee, request).await, expected);
    assert_eq!(other.dial(callee.id).await, Err(RefusalReason::Unavailable));
    dialler.dial(callee.id).await.unwrap();
}

#[tokio::test]
async fn a_candidate_of_an_unknown_kind_is_left_out() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    let registration = Registration {
        serial: 1,
        candidates: [callee.candidates(), callee.candidates()].concat(),
        ..Registration::new(DialPolicy::Anyone)
    };
    let mut frame = codec::encode(&Request::Register(registration)).unwrap();
    // The frame's header, the request's kind, the number of candidates, and the first one's length.
    let kind = codec::HEADER_LEN + 2 + 2 + 2;
    frame[kind..kind + 2].copy_from_slice(&NEW.to_be_bytes());
    let answer = callee.send(&frame).await.unwrap();
    let Response::Registered(registered) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(registered.unproven, []);
    let introduction = dialler.dial(callee.id).await.unwrap();
    assert_eq!(introduction.candidates, callee.candidates());
}

#[tokio::test]
async fn an_extension_is_passed_over_unless_it_is_required() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    let register = |extensions| {
        Request::Register(Registration {
            serial: 1,
            extensions,
            ..Registration::new(DialPolicy::Anyone)
        })
    };
    let dial = |extensions| {
        Request::Dial(DialRequest {
            extensions,
            ..DialRequest::new(callee.id)
        })
    };
    let answer = callee.request(&register(extensions(NEW, 1))).await;
    assert!(matches!(answer, Response::Registered(_)), "{answer:?}");
    let answer = dialler.request(&dial(extensions(NEW, 1))).await;
    assert!(matches!(answer, Response::Introduced(_)), "{answer:?}");

    let unknown = unsupported(Unsupported::Extension(REQUIRED));
    let required = || extensions(REQUIRED, 1);
    assert_eq!(refused(&callee, register(required())).await, unknown);
    assert_eq!(refused(&dialler, dial(required())).await, unknown);
    let too_many = || extensions(NEW, MAX_EXTENSIONS + 1);
    let too_large = RefusalReason::TooLarge;
    assert_eq!(refused(&callee, register(too_many())).await, too_large);
    assert_eq!(refused(&dialler, dial(too_many())).await, too_large);
    // What is refused has changed nothing.
    dialler.dial(callee.id).await.unwrap();
}

#[tokio::test]
async fn what_peers_tell_each_other_passes_unread() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    // No list of extensions, and one with a required one.
    let (of_callee, of_dialler) = (vec![0xEB; MAX_PEER_EXTENSIONS], extensions(REQUIRED, 1));
    let register = |peer_extensions| {
        Request::Register(Registration {
            serial: 1,
            peer_extensions,
            ..Registration::new(DialPolicy::Anyone)
        })
    };
    let dial = |peer_extensions| {
        Request::Dial(DialRequest {
            peer_extensions,
            ..DialRequest::new(callee.id)
        })
    };
    let answer = callee.request(&register(of_callee.clone())).await;
    assert!(matches!(answer, Response::Registered(_)), "{answer:?}");
    let answer = dialler.request(&dial(of_dialler.to_peer())).await;
    let Response::Introduced(introduction) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(introduction.peer_extensions, of_callee);
    let told = callee.introduction().await.peer_extensions;
    assert_eq!(Extensions::of_peer(&told), of_dialler);

    let too_long = || vec![0; MAX_PEER_EXTENSIONS + 1];
    assert_eq!(
        refused(&callee, register(too_long())).await,
        RefusalReason::TooLarge
    );
    assert_eq!(
        refused(&dialler, dial(too_long())).await,
        RefusalReason::TooLarge
    );
}
