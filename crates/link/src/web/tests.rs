//! Tests over the loopback.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use p2pconnect_host::{Host, TcpStream};
use p2pconnect_identity::{SecretKey, Stranger};
use p2pconnect_proto::{CoordinatorAddr, PeerId};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;
use crate::{Link, foreign::foreign, setup::ConnectError, tcp};

/// Returns how to connect to a coordinator by a scheme.
fn client(id: PeerId, scheme: &str, at: SocketAddr) -> (Client, PeerId) {
    let address: CoordinatorAddr = format!("{id}@{scheme}://{at}/p2p?x=1").parse().unwrap();
    let key = SecretKey::generate().unwrap();
    let tls = tcp::Client::new(&key, id, &Stranger::default(), None).unwrap();
    (Client::new(tls, &address).unwrap(), key.peer_id())
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

/// Accepts one connection by a WebSocket, and returns it with where it is said to come from.
async fn accepting(listener: TcpListener, key: SecretKey) -> (Link, Told) {
    let (stream, remote) = listener.accept().await.unwrap();
    let server = tcp::Server::new(&[&key], Duration::from_secs(30)).unwrap();
    let incoming = receive(TcpStream::from(stream), remote, None)
        .await
        .unwrap();
    assert!(incoming.is_tls());
    let port = incoming.has_port.then(|| incoming.source.port());
    let source = (incoming.source.ip(), port);
    (incoming.accept(&server).await.unwrap().into(), source)
}

/// Sends a request of some length, and an answer.
async fn exchange(peer: &Link, coordinator: &Link) {
    let asked = vec![7; 100_000];
    let asking = async {
        let (mut send, mut receive) = peer.open_bi().await.unwrap();
        send.write_all(&asked).await.unwrap();
        send.finish().unwrap();
        let mut answer = [0; 2];
        assert_eq!(receive.read_full(&mut answer).await, Ok(2));
        assert_eq!(&answer, b"ok");
    };
    let answering = async {
        let (mut send, mut receive) = coordinator.accept_bi().await.unwrap();
        let mut heard = Vec::new();
        while receive.read_more(&mut heard, 4096).await.unwrap() > 0 {}
        assert_eq!(heard.len(), 100_000);
        send.write_all(b"ok").await.unwrap();
        send.finish().unwrap();
    };
    tokio::join!(asking, answering);
}

#[tokio::test]
async fn a_web_socket_carries_a_link() {
    let key = SecretKey::generate().unwrap();
    let id = key.peer_id();
    let (listener, at) = listener().await;
    let serving = tokio::spawn(accepting(listener, key));
    let (client, own_id) = client(id, "ws", at);
    let connected = client.connect(&Host::default(), at).await.unwrap();
    let peer = Link::from(connected.connection);
    let (coordinator, source) = serving.await.unwrap();
    assert!(source.0 == at.ip() && source.1.is_some(), "{source:?}");
    assert_eq!(coordinator.peer_id(), Some(own_id));
    exchange(&peer, &coordinator).await;
    peer.close(1_u32, "bye");
    let end = coordinator.closed().await;
    assert!(format!("{end:?}").contains("bye"), "{end:?}");
    peer.let_go().await;
}

/// Returns a certificate that nobody else has issued, and its key, in PEM.
fn of_its_own() -> [String; 2] {
    let of_its_own = rcgen::generate_simple_self_signed(["c.example".to_owned()]).unwrap();
    let (certificate, key) = (of_its_own.cert.pem(), of_its_own.signing_key);
    [certificate, key.serialize_pem()]
}

#[tokio::test]
async fn a_coordinator_with_a_certificate_speaks_the_tls_outside_itself() {
    let [chain, private] = of_its_own();
    let certificate = Certificate::from_pem(chain.as_bytes(), private.as_bytes()).unwrap();
    let [other, other_key] = of_its_own();
    let renewed = Certificate::from_pem(other.as_bytes(), other_key.as_bytes()).unwrap();
    certificate.clone().replace(&renewed);
    let key = SecretKey::generate().unwrap();
    let (client, _) = client(key.peer_id(), "wss", (Ipv4Addr::LOCALHOST, 443).into());
    let (listener, at) = listener().await;
    let serving = tokio::spawn(async move {
        let (stream, remote) = listener.accept().await.unwrap();
        let server = tcp::Server::new(&[&key], Duration::from_secs(30)).unwrap();
        let incoming = receive(TcpStream::from(stream), remote, Some(&certificate)).await;
        let incoming = incoming.unwrap();
        assert!(incoming.has_port && incoming.is_tls());
        Link::from(incoming.accept(&server).await.unwrap())
    });
    let connected = client.connect(&Host::default(), at).await.unwrap();
    assert!(connected.intercepted_by.is_some());
    exchange(&connected.connection.into(), &serving.await.unwrap()).await;
}

#[test]
fn what_is_wrong_with_a_certificate_is_told() {
    let [chain, key] = of_its_own();
    let [_, other] = of_its_own();
    let broken = chain.replace("END", "");
    let cases = [
        ("", &*key, "no certificate in PEM"),
        (&*key, &*key, "no certificate in PEM"),
        (&*broken, &*key, "the certificates is broken"),
        (&*chain, "", "no private key in PEM"),
        (&*chain, &*chain, "no private key in PEM"),
        (&*chain, &*other, "not that of the first certificate"),
    ];
    for (chain, key, told) in cases {
        let error = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(told), "{told}: {error}");
    }
}

/// Starts what intercepts TLS, with a certificate that this one has issued.
async fn intercepting(issuer: &str, to: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let acceptor = foreign(issuer);
    let (listener, at) = listener().await;
    let passing = tokio::spawn(async move {
        let (from, _) = listener.accept().await.unwrap();
        let mut from = acceptor.accept(from).await.unwrap();
        let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
        drop(copy_bidirectional(&mut from, &mut to).await);
    });
    (at, passing)
}

#[tokio::test]
async fn who_intercepts_the_tls_outside_is_named_and_reads_nothing() {
    let key = SecretKey::generate().unwrap();
    let id = key.peer_id();
    let (listener, at) = listener().await;
    let serving = tokio::spawn(accepting(listener, key));
    let (at, _passing) = intercepting("Corp Inspection", at).await;
    let (client, _) = client(id, "wss", at);
    let connected = client.connect(&Host::default(), at).await.unwrap();
    let issuer = connected.intercepted_by.as_deref();
    assert_eq!(issuer, Some("Corp Inspection"));
    let peer = Link::from(connected.connection);
    let (coordinator, _) = serving.await.unwrap();
    exchange(&peer, &coordinator).await;
}

#[tokio::test]
async fn another_coordinator_inside_is_none() {
    let (listener, at) = listener().await;
    let key = SecretKey::generate().unwrap();
    tokio::spawn(async move {
        let (stream, remote) = listener.accept().await.unwrap();
        let server = tcp::Server::new(&[&key], Duration::from_secs(30)).unwrap();
        let incoming = receive(TcpStream::from(stream), remote, None)
            .await
            .unwrap();
        drop(incoming.accept(&server).await);
    });
    let (client, _) = client(SecretKey::generate().unwrap().peer_id(), "ws", at);
    let error = client.connect(&Host::default(), at).await.unwrap_err();
    assert!(matches!(error, ConnectError::WrongIdentity), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_no_web_socket_is_told_of() {
    for (answer, told) in [
        (
            "HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n",
            "302 Found, see http://portal/",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "502 Bad Gateway"),
        ("SSH-2.0\r\n\r\n", "no web server"),
    ] {
        let (listener, at) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4096];
            assert!(stream.read(&mut asked).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let (client, _) = client(PeerId::from_public_key([1; 32]), "ws", at);
        let error = client.connect(&Host::default(), at).await.unwrap_err();
        assert!(matches!(error, ConnectError::NoWebSocket(_)), "{error}");
        let is_http = answer.starts_with("HTTP");
        assert!(!is_http || error.to_string().contains(told), "{error}");
    }
}

/// An address, and a port if one is known.
type Told = (IpAddr, Option<u16>);

/// Says where it comes from, as a web server does, and then speaks TLS.
async fn forwarded(said: &str) -> Told {
    let key = SecretKey::generate().unwrap();
    let id = key.peer_id();
    let (listener, at) = listener().await;
    let serving = tokio::spawn(accepting(listener, key));
    let (between, before) = self::listener().await;
    let said = said.to_owned();
    tokio::spawn(async move {
        let (mut from, _) = between.accept().await.unwrap();
        let mut to = tokio::net::TcpStream::connect(at).await.unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(from.read_u8().await.unwrap());
        }
        to.write_all(&line).await.unwrap();
        to.write_all(said.as_bytes()).await.unwrap();
        drop(copy_bidirectional(&mut from, &mut to).await);
    });
    let (client, _) = client(id, "ws", before);
    let _connected = client.connect(&Host::default(), before).await.unwrap();
    serving.await.unwrap().1
}

#[tokio::test]
async fn a_web_server_on_this_machine_says_where_its_client_is() {
    for (said, ip, port) in [
        ("192.0.2.66, 192.0.2.7", "192.0.2.7", None),
        (
            "1.1.1.1\r\nX-Forwarded-For: 2001:db8::7",
            "2001:db8::7",
            None,
        ),
        ("192.0.2.7:5000", "192.0.2.7", Some(5000)),
        ("[192.0.2.7]:5000", "192.0.2.7", Some(5000)),
        ("::1, [2001:db8::7]:5000", "2001:db8::7", Some(5000)),
    ] {
        let told = forwarded(&format!("X-Forwarded-For: {said}\r\n")).await;
        assert_eq!(told, (ip.parse().unwrap(), port), "{said}");
    }
    for said in [
        "X-Forwarded-For: me\r\n",
        "X-Forwarded-For: 192.0.2.7:x\r\n",
        "",
    ] {
        let (ip, port) = forwarded(said).await;
        assert!(ip == Ipv4Addr::LOCALHOST && port.is_some(), "{said}");
    }
}
