//! Tests of both sides over a pipe.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::{
    net::Ipv4Addr,
    pin::Pin,
    task::{Context, Poll},
};

use p2pconnect_identity::{SecretKey, Stranger, client_config};
use p2pconnect_proto::{PEER_ALPN, close};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex, split},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::ClientConfig};

use super::*;
use crate::Link;

const IDLE: Duration = Duration::from_secs(30);

const FAR: Duration = Duration::from_millis(80);

fn nowhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1).into()
}

struct Pipe(DuplexStream, Duration);

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Carrier for Pipe {
    fn round_trip(&self) -> Option<Duration> {
        Some(self.1)
    }
}

/// Returns the ends of a way that takes so long.
fn way(one_way: Duration) -> [DuplexStream; 2] {
    let ((one, inner_one), (other, inner_other)) = (duplex(4096), duplex(4096));
    let (from_one, to_one) = split(inner_one);
    let (from_other, to_other) = split(inner_other);
    for (mut from, mut to) in [(from_one, to_other), (from_other, to_one)] {
        tokio::spawn(async move {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut piece).await {
                sleep(one_way).await;
                if to.write_all(&piece[..count]).await.is_err() {
                    break;
                }
            }
        });
    }
    [one, other]
}

/// Returns both ends of a connection, the peer's first, and their keys.
async fn connected() -> ([Link; 2], [PeerId; 2]) {
    let [peer, coordinator] = [(); 2].map(|()| SecretKey::generate().unwrap());
    let ids = [peer.peer_id(), coordinator.peer_id()];
    let client = Client::new(&peer, ids[1], &Stranger::default(), None).unwrap();
    let server = Server::new(&[&coordinator], IDLE).unwrap();
    let (one, other) = duplex(4096);
    let (connected, accepted) = tokio::join!(
        client.connect_over(Pipe(one, FAR), nowhere()),
        server.accept_over(Pipe(other, FAR), nowhere())
    );
    ([connected.unwrap(), accepted.unwrap()].map(Link::from), ids)
}

/// Has a server accept whoever speaks TLS, and returns both ends.
async fn accepted_by(
    server: &Server,
    tls: ClientConfig,
) -> (
    io::Result<TlsStream<DuplexStream>>,
    Result<Connection, ConnectError>,
) {
    let connector = TlsConnector::from(Arc::new(tls));
    let (one, other) = duplex(4096);
    tokio::join!(
        connector.connect("p2pconnect".try_into().unwrap(), one),
        server.accept_over(Pipe(other, FAR), nowhere())
    )
}

/// Returns a coordinator's link to somebody who speaks TLS and nothing more, and that one's end.
async fn connected_to_tls() -> (TlsStream<DuplexStream>, Link) {
    let [peer, coordinator] = [(); 2].map(|()| SecretKey::generate().unwrap());
    let server = Server::new(&[&coordinator], IDLE).unwrap();
    let tls = client_config(&peer, coordinator.peer_id(), COORDINATION_ALPN).unwrap();
    let (client, accepted) = accepted_by(&server, tls).await;
    (client.unwrap(), Link::from(accepted.unwrap()))
}

async fn read_all(stream: &mut crate::RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while stream.read_more(&mut all, 1000).await.unwrap() > 0 {}
    all
}

#[tokio::test]
async fn whoever_answers_in_the_coordinators_place_is_named_by_who_has_issued_the_certificate() {
    let [key, coordinator] = [(); 2].map(|()| SecretKey::generate().unwrap());
    let stranger = Stranger::default();
    let client = Client::new(&key, coordinator.peer_id(), &stranger, None).unwrap();
    let (one, other) = duplex(4096);
    let foreign = crate::foreign::foreign("Corp\u{7} Inspection");
    let (connected, accepted) = tokio::join!(
        client.connect_over(Pipe(one, FAR), nowhere()),
        foreign.accept(Pipe(other, FAR))
    );
    assert!(accepted.is_err());
    let error = connected.unwrap_err();
    assert!(matches!(error, ConnectError::Foreign(_)), "{error}");
    assert!(
        error.to_string().contains("issued by Corp? Inspection"),
        "{error}"
    );
}

/// A carrier that ends at a proxy knows the way to the proxy.
#[tokio::test(start_paused = true)]
async fn a_way_that_goes_on_behind_a_proxy_is_measured_whole() {
    let [peer, coordinator] = [(); 2].map(|()| SecretKey::generate().unwrap());
    let id = coordinator.peer_id();
    let client = Client::new(&peer, id, &Stranger::default(), None).unwrap();
    let server = Server::new(&[&coordinator], IDLE).unwrap();
    let [one, other] = way(FAR / 2);
    let near = Duration::from_millis(1);
    let (peer, coordinator) = tokio::join!(
        client.connect_over(Pipe(one, near), nowhere()),
        server.accept_over(Pipe(other, near), nowhere())
    );
    let [peer, coordinator] = [peer, coordinator].map(|it| Link::from(it.unwrap()));
    let is_whole = |link: &Link| (FAR..FAR + FAR / 10).contains(&link.rtt());
    assert!(is_whole(&peer), "{:?}", peer.rtt());
    // It has asked the peer itself by the time at which a request comes behind the next one.
    for _ in 0..2 {
        let (mut send, _receive) = peer.open_bi().await.unwrap();
        send.write_all(b"asked").await.unwrap();
        let _request = coordinator.accept_bi().await.unwrap();
        sleep(FAR).await;
    }
    assert!(is_whole(&coordinator), "{:?}", coordinator.rtt());
}

#[tokio::test(start_paused = true)]
async fn requests_answers_and_notices_arrive() {
    let ([peer, coordinator], ids) = connected().await;
    assert_eq!([coordinator.peer_id(), peer.peer_id()], ids.map(Some));
    assert_eq!((peer.rtt(), peer.remote_address()), (FAR, nowhere()));
    let asked = vec![7; 65_540];
    let asking = async {
        let (mut send, mut receive) = peer.open_bi().await.unwrap();
        send.write_all(&asked).await.unwrap();
        send.finish().unwrap();
        read_all(&mut receive).await
    };
    let answering = async {
        let (mut send, mut receive) = coordinator.accept_bi().await.unwrap();
        assert_eq!(read_all(&mut receive).await, asked);
        send.write_all(b"answer").await.unwrap();
        let mut notice = coordinator.open_uni().await.unwrap();
        notice.write_all(b"notice").await.unwrap();
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer, b"answer");
    let mut notice = peer.accept_uni().await.unwrap();
    assert_eq!(read_all(&mut notice).await, b"notice");
}

#[tokio::test(start_paused = true)]
async fn whoever_closes_has_the_last_word() {
    for closes_first in [0, 1] {
        let (links, _) = connected().await;
        let (closing, other) = (&links[closes_first], &links[1 - closes_first]);
        closing.close(close::GOING_AWAY, "shutting down");
        let code = close::GOING_AWAY.into();
        let words = "shutting down".to_owned();
        assert_eq!(other.closed().await, End::Closed { code, words });
        assert_eq!(closing.close_reason(), Some(End::ClosedHere));
        let ending = async { tokio::join!(closing.let_go(), other.let_go()) };
        timeout(Duration::from_secs(1), ending).await.unwrap();
        assert!(other.open_bi().await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_holds_is_closed() {
    let ([peer, coordinator], _) = connected().await;
    let (send, receive) = peer.open_bi().await.unwrap();
    drop(peer);
    assert!(timeout(IDLE / 2, coordinator.closed()).await.is_err());
    drop((send, receive));
    let (code, words) = (close::DONE.into(), String::new());
    assert_eq!(coordinator.closed().await, End::Closed { code, words });
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_connection_and_signs_of_life_keep_it() {
    let ([peer, coordinator], _) = connected().await;
    for _ in 0..10 {
        let heard = [peer.heard(), coordinator.heard()];
        peer.send_sign_of_life();
        coordinator.sign_of_life().await.unwrap();
        sleep(IDLE / 2).await;
        assert!(peer.heard() > heard[0] && coordinator.heard() > heard[1]);
    }
    assert_eq!(
        (peer.close_reason(), coordinator.close_reason()),
        (None, None)
    );
    // Whichever finds out first leaves, and the other one sees that.
    let ends = tokio::join!(peer.closed(), coordinator.closed());
    assert!([&ends.0, &ends.1].contains(&&End::Silence), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_nothing_is_silent() {
    let (client, link) = connected_to_tls().await;
    let began = Instant::now();
    let writing = async {
        loop {
            let mut notice = link.open_uni().await?;
            notice
                .write_all(&[0; 60_000])
                .await
                .map_err(|_| End::Silence)?;
        }
    };
    let written: Result<(), End> = writing.await;
    assert_eq!(written, Err(End::Silence));
    assert_eq!(link.closed().await, End::Silence);
    assert_eq!(began.elapsed().as_secs(), IDLE.as_secs());
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_off_is_reset() {
    let (client, link) = connected_to_tls().await;
    drop(client);
    assert_eq!(link.closed().await, End::Reset);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_somebody_else_or_speaks_something_else_is_turned_away() {
    let keys = [(); 2].map(|()| SecretKey::generate().unwrap());
    let server = Server::new(&[&keys[1]], IDLE).unwrap();
    let stranger = Stranger::default();
    let client = Client::new(&keys[0], keys[0].peer_id(), &stranger, None).unwrap();
    let (one, other) = duplex(4096);
    let (connected, accepted) = tokio::join!(
        client.connect_over(Pipe(one, FAR), nowhere()),
        server.accept_over(Pipe(other, FAR), nowhere())
    );
    assert!(
        matches!(connected, Err(ConnectError::WrongIdentity)),
        "{connected:?}"
    );
    assert_eq!(stranger.id(), Some(keys[1].peer_id()));
    assert!(
        matches!(accepted, Err(ConnectError::Failed(_))),
        "{accepted:?}"
    );
    for alpn in [&[][..], &[PEER_ALPN.to_vec()]] {
        let mut tls = client_config(&keys[0], keys[1].peer_id(), COORDINATION_ALPN).unwrap();
        tls.alpn_protocols = alpn.to_vec();
        let (_client, accepted) = accepted_by(&server, tls).await;
        assert!(
            matches!(accepted, Err(ConnectError::Failed(_))),
            "{accepted:?}"
        );
    }
}
