//! A coordinator with a client whose streams are not ours.

use std::{future::poll_fn, net::Ipv4Addr, sync::Arc, time::Duration};

use p2pconnect_coordinator::RendezvousPorts;
use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::{
    COORDINATION_ALPN, TokenKey,
    close::{self, Close},
    codec::{self, HEADER_LEN},
    message::{Notice, Request, Response},
};
use p2pconnect_stun::StunServerConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

const LONG: Duration = Duration::from_secs(20);

async fn read_all(mut stream: Compat<yamux::Stream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = timeout(LONG, stream.read_to_end(&mut bytes));
    reading.await.unwrap().unwrap();
    bytes
}

#[tokio::test]
async fn a_client_with_another_yamux_asks_and_is_told() {
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let token_key = TokenKey::from_bytes([7; 32]);
    let ports = RendezvousPorts::bind(any, &[any], StunServerConfig::default(), token_key).unwrap();
    let config = ports.config(SecretKey::generate().unwrap());
    let rendezvous = ports.coordinate(config).unwrap();
    let (id, at) = {
        let coordinator = &rendezvous.coordinator;
        (coordinator.server_id(), coordinator.local_addr())
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(rendezvous.run(async { drop(stopped.await) }));

    let key = SecretKey::generate().unwrap();
    let tls = client_config(&key, id, COORDINATION_ALPN).unwrap();
    let tcp = TcpStream::connect(at).await.unwrap();
    let local = tcp.local_addr().unwrap();
    let connector = TlsConnector::from(Arc::new(tls));
    let tls = connector
        .connect("p2pconnect".try_into().unwrap(), tcp)
        .await;
    let tls = tls.unwrap().compat();
    let mut session = yamux::Connection::new(tls, yamux::Config::default(), yamux::Mode::Client);
    let stream = poll_fn(|cx| session.poll_new_outbound(cx)).await.unwrap();
    let (inbound, mut notices) = mpsc::channel(8);
    tasks.spawn(async move {
        while let Some(Ok(stream)) = poll_fn(|cx| session.poll_next_inbound(cx)).await {
            inbound.send(stream.compat()).await.unwrap();
        }
    });
    let mut stream = stream.compat();
    let request = codec::encode(&Request::Settled(key.peer_id())).unwrap();
    stream.write_all(&request).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = read_all(stream).await;
    let answer: Response = codec::decode(&answer[HEADER_LEN..]).unwrap();
    assert_eq!(answer, Response::Settled);
    // Among notices that mean nothing.
    let welcome = loop {
        let notice = read_all(notices.recv().await.unwrap()).await;
        if let Notice::Welcome(welcome) = codec::decode(&notice[HEADER_LEN..]).unwrap() {
            break welcome;
        }
    };
    assert_eq!(welcome.observed, local);

    drop(stop);
    let last_words = loop {
        let bytes = read_all(notices.recv().await.unwrap()).await;
        if bytes.starts_with(&[0xFF; 4]) {
            break bytes;
        }
    };
    let (mark, rest) = last_words.split_first_chunk::<4>().unwrap();
    let (code, words) = rest.split_first_chunk::<8>().unwrap();
    assert_eq!(*mark, [0xFF; 4]);
    let told = Close::from_wire(u64::from_be_bytes(*code));
    assert_eq!(told.code, close::GOING_AWAY);
    assert!(told.retry_after.is_some(), "when to come back");
    assert_eq!(words, b"shutting down");
}
