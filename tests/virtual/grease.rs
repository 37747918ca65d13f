//! What means nothing is sent now and then, by peers and by coordinators (RFC 8701).

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use p2pconnect::{DialError, PeerId, SecretKey};
use p2pconnect_identity::client_config;
use p2pconnect_proto::{
    COORDINATION_ALPN, Grease,
    codec::{self, HEADER_LEN, Wire},
    message::{
        BOARD, DialRequest, Extensions, Notice, RefusalReason, Registration, Request, Response,
    },
};
use p2pconnect_tests::{kinds::PUBLIC, virtual_ground::VirtualGround};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, crypto::rustls::QuicClientConfig};

use crate::coordinator::serve_on_b;

fn nobody() -> PeerId {
    PeerId::from_public_key([0x55; 32])
}

async fn read<M: Wire>(mut stream: quinn::RecvStream) -> M {
    let frame = stream.read_to_end(codec::MAX_BODY + HEADER_LEN).await;
    codec::decode(&frame.unwrap()[HEADER_LEN..]).unwrap()
}

/// Returns how many extensions there are, none of which means anything.
fn reserved(extensions: &Extensions) -> usize {
    let kinds = extensions.0.iter().map(|it| it.kind);
    kinds
        .inspect(|kind| assert!(Grease::is_reserved(*kind)))
        .count()
}

/// What peers have sent that means nothing.
#[derive(Debug, Default)]
struct Seen {
    requests: usize,
    dials: usize,
    extensions: usize,
    of_peers: usize,
}

impl Seen {
    fn take(&mut self, request: Request) {
        let (extensions, peer_extensions) = match request {
            Request::Unknown(unknown) => {
                assert!(Grease::is_reserved(unknown.kind));
                self.requests += 1;
                return;
            }
            Request::Dial(DialRequest {
                extensions,
                peer_extensions,
                ..
            })
            | Request::Register(Registration {
                extensions,
                peer_extensions,
                ..
            }) => (extensions, peer_extensions),
            _ => return,
        };
        self.dials += 1;
        self.extensions += reserved(&extensions);
        self.of_peers += reserved(&Extensions::of_peer(&peer_extensions));
    }
}

#[test]
fn peers_send_it() {
    let seen = VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noting = Arc::clone(&seen);
        let (address, _task) = serve_on_b(&ground, move |connection| {
            let noting = Arc::clone(&noting);
            async move {
                let refused = Response::Refused(RefusalReason::Unavailable.into());
                let refused = codec::encode(&refused).unwrap();
                while let Ok((mut send, receive)) = connection.accept_bi().await {
                    let request = read(receive).await;
                    noting.lock().unwrap().take(request);
                    send.write_all(&refused).await.unwrap();
                    send.finish().unwrap();
                }
            }
        });
        for program in 10..50 {
            let endpoint = ground.endpoint("a").coordinator(address.clone());
            let endpoint = endpoint.host(ground.programs.host("a", program));
            let endpoint = endpoint.bind().await.unwrap();
            for _ in 0..4 {
                let error = endpoint.dial(nobody()).await.unwrap_err();
                assert!(matches!(error, DialError::Unavailable { .. }), "{error:?}");
            }
            endpoint.close().await;
        }
        std::mem::take(&mut *seen.lock().unwrap())
    });
    assert_eq!(seen.dials, 160);
    assert!((1..10).contains(&seen.requests), "{seen:?}");
    assert!((2..30).contains(&seen.extensions), "{seen:?}");
    assert_eq!(seen.of_peers, seen.extensions, "{seen:?}");
}

/// Connects to the coordinator by hand.
async fn connect(ground: &VirtualGround, endpoint: &Endpoint) -> Connection {
    let key = SecretKey::generate().unwrap();
    let tls = client_config(&key, ground.coordinator.id, COORDINATION_ALPN).unwrap();
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let ip = ground.coordinator.host.parse().unwrap();
    let to = SocketAddr::new(ip, ground.coordinator.port);
    let connecting = endpoint.connect_with(config, to, "p2pconnect").unwrap();
    connecting.await.unwrap()
}

#[test]
fn coordinators_send_it() {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let host = ground.programs.host("a", 1);
        let any = (Ipv4Addr::UNSPECIFIED, 0).into();
        let socket = host.udp_socket(any, None).unwrap();
        let endpoint = host.quic_endpoint(socket, EndpointConfig::default(), None);
        let endpoint = endpoint.unwrap();
        let dial = codec::encode(&Request::Dial(DialRequest::new(nobody()))).unwrap();
        let [mut notices, mut features, mut of_welcomes, mut of_refusals] = [0; 4];
        for _ in 0..64 {
            let connection = connect(&ground, &endpoint).await;
            for _ in 0..2 {
                let (mut send, receive) = connection.open_bi().await.unwrap();
                send.write_all(&dial).await.unwrap();
                send.finish().unwrap();
                match read(receive).await {
                    Response::Refused(refusal) => of_refusals += reserved(&refusal.extensions),
                    other => panic!("{other:?}"),
                }
            }
            // By then all notices have come.
            let soon = Duration::from_millis(300);
            while let Ok(stream) = tokio::time::timeout(soon, connection.accept_uni()).await {
                match read(stream.unwrap()).await {
                    Notice::Unknown(unknown) => {
                        assert!(Grease::is_reserved(unknown.kind));
                        notices += 1;
                    }
                    Notice::Welcome(welcome) => {
                        let others = welcome.features.iter().filter(|it| **it != BOARD);
                        let grease = others.inspect(|it| assert!(Grease::is_reserved(**it)));
                        features += grease.count();
                        of_welcomes += reserved(&welcome.extensions);
                    }
                    other => panic!("{other:?}"),
                }
            }
            connection.close(0_u32.into(), b"done");
        }
        for (what, sent) in [
            ("notices", notices),
            ("features", features),
            ("extensions of welcomes", of_welcomes),
            ("extensions of refusals", of_refusals),
        ] {
            assert!((1..20).contains(&sent), "{sent} {what}");
        }
    });
}
