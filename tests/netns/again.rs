use std::{collections::BTreeSet, sync::Barrier};

use netns_lab::{NatSpec, UnsolicitedSyn, test};
use p2pconnect::{Builder, Connection, DialPolicy, Endpoint, PeerId, SecretKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::net::{Boxes, Net};

/// How often the same peer is dialled: more often than there are pairs of punch ports.
const TIMES: usize = 6;

/// How many pairs there are.
const PAIRS: usize = 4;

/// Which side closes first, and so keeps the pair of addresses in TIME-WAIT.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closes {
    Dialler,
    Listener,
}

/// Says something and ends its direction first, or after the other side.
async fn close(mut connection: Connection, is_first: bool) {
    let mut heard = String::new();
    if !is_first {
        connection.read_to_string(&mut heard).await.unwrap();
    }
    connection.write_all(b"again").await.unwrap();
    connection.shutdown().await.unwrap();
    if is_first {
        connection.read_to_string(&mut heard).await.unwrap();
    }
    assert_eq!(heard, "again");
}

async fn dial_again(builder: Builder, peer: PeerId, first: Closes, online: &Barrier) {
    let endpoint = builder.bind().await.unwrap();
    online.wait();
    let mut pairs = BTreeSet::new();
    for _ in 0..TIMES {
        let connection = endpoint.dial(peer).await.unwrap();
        pairs.insert((connection.path().local, connection.path().remote));
        close(connection, first == Closes::Dialler).await;
    }
    // None is in the way of the next.
    assert_eq!(pairs.len(), PAIRS);
}

async fn listen(builder: Builder, first: Closes, online: &Barrier) {
    let endpoint = builder.allow(DialPolicy::Anyone).bind().await.unwrap();
    online.wait();
    for _ in 0..TIMES {
        let connection = endpoint.accept().await.unwrap();
        close(connection, first == Closes::Listener).await;
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(future);
}

/// Dials the same peer from one endpoint, again and again, each time after the stream has ended.
fn redials(boxes: Boxes<'_>, first: Closes) {
    let net = Net::new(boxes, boxes);
    let builder = || Endpoint::builder().coordinator(net.coordinator.parse().unwrap());
    let key = SecretKey::generate().unwrap();
    let peer = key.peer_id();
    let (dialler, listener) = (builder(), builder().secret_key(key));
    let online = Barrier::new(2);
    std::thread::scope(|scope| {
        let (a, b, online) = (net.lab.host("a"), net.lab.host("b"), &online);
        scope.spawn(move || {
            let listening = || block_on(listen(listener, first, online));
            b.run(listening).unwrap();
        });
        let dialling = || block_on(dial_again(dialler, peer, first, online));
        a.run(dialling).unwrap();
    });
    net.finish();
}

#[test]
fn through_nats_that_drop() {
    test(|| redials(&[NatSpec::port_preserving()], Closes::Dialler));
}

#[test]
fn through_nats_that_reset() {
    let nat = NatSpec::port_preserving().answering(UnsolicitedSyn::Rst);
    test(|| redials(&[nat], Closes::Dialler));
}

#[test]
fn through_nats_that_drop_after_the_listener_has_closed() {
    test(|| redials(&[NatSpec::port_preserving()], Closes::Listener));
}

#[test]
fn through_nats_that_reset_after_the_listener_has_closed() {
    let nat = NatSpec::port_preserving().answering(UnsolicitedSyn::Rst);
    test(|| redials(&[nat], Closes::Listener));
}

#[test]
fn between_public_hosts() {
    test(|| redials(&[], Closes::Dialler));
}

#[test]
fn between_public_hosts_after_the_listener_has_closed() {
    test(|| redials(&[], Closes::Listener));
}
