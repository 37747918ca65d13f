//! Dials to the same peer, one after the other.

use std::{collections::BTreeSet, process::Command, sync::Barrier};

use netns_lab::{Hairpinning, NatSpec, TestRun, UnsolicitedSyn, test};
use p2pconnect::{Builder, Connection, DialPolicy, Endpoint, PeerId, SecretKey};
use p2pconnect_tests::{
    net::{Boxes, Net},
    process::{self, Process},
    settled::block_on,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How often the same peer is dialled: more often than there are pairs of punch ports.
const TIMES: usize = 6;

/// How many pairs take turns.
const PAIRS: usize = 2;

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
    // None is in the way of the next. Where this machine was busy, a hedge may have had its turn.
    assert!(pairs.len() >= PAIRS, "{pairs:?}");
}

async fn listen(builder: Builder, first: Closes, online: &Barrier) {
    let endpoint = builder.allow(DialPolicy::Anyone).bind().await.unwrap();
    online.wait();
    for _ in 0..TIMES {
        let connection = endpoint.accept().await.unwrap();
        close(connection, first == Closes::Listener).await;
    }
}

/// Makes more connections than there are pairs, and uses them all.
async fn dial_side_by_side(builder: Builder, peer: PeerId, online: &Barrier) {
    let endpoint = builder.bind().await.unwrap();
    online.wait();
    let mut connections = Vec::new();
    for _ in 0..TIMES {
        connections.push(endpoint.dial(peer).await.unwrap());
    }
    for connection in connections {
        close(connection, true).await;
    }
}

async fn listen_side_by_side(builder: Builder, online: &Barrier) {
    let endpoint = builder.allow(DialPolicy::Anyone).bind().await.unwrap();
    online.wait();
    let mut connections = Vec::new();
    for _ in 0..TIMES {
        connections.push(endpoint.accept().await.unwrap());
    }
    for connection in connections {
        close(connection, false).await;
    }
}

/// Runs an endpoint on either host.
fn run<A, B>(
    net: Net,
    dial: impl FnOnce(Builder, PeerId) -> A + Send,
    listen: impl FnOnce(Builder) -> B + Send,
) where
    A: Future<Output = ()>,
    B: Future<Output = ()>,
{
    let builder = || Endpoint::builder().coordinator(net.coordinator.parse().unwrap());
    let key = SecretKey::generate().unwrap();
    let peer = key.peer_id();
    let (dialler, listener) = (builder(), builder().secret_key(key));
    std::thread::scope(|scope| {
        let (a, b) = (net.lab.host("a"), net.lab.host("b"));
        scope.spawn(move || b.run(|| block_on(listen(listener))).unwrap());
        a.run(|| block_on(dial(dialler, peer))).unwrap();
    });
    net.finish();
}

/// Dials the same peer from one endpoint, again and again, each time after the stream has ended.
fn redials(boxes: Boxes<'_>, first: Closes) {
    let online = Barrier::new(2);
    run(
        Net::new(boxes, boxes),
        |builder, peer| dial_again(builder, peer, first, &online),
        |builder| listen(builder, first, &online),
    );
}

/// Dials the same peer again and again while all the streams last.
fn side_by_side(net: Net) {
    let online = Barrier::new(2);
    run(
        net,
        |builder, peer| dial_side_by_side(builder, peer, &online),
        |builder| listen_side_by_side(builder, &online),
    );
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

#[test]
fn side_by_side_through_nats_that_drop() {
    let nats = [NatSpec::port_preserving()];
    test(move || side_by_side(Net::new(&nats, &nats)));
}

#[test]
fn side_by_side_through_nats_that_reset() {
    let nats = [NatSpec::port_preserving().answering(UnsolicitedSyn::Rst)];
    test(move || side_by_side(Net::new(&nats, &nats)));
}

#[test]
fn side_by_side_through_random_ports() {
    let nats = [NatSpec::random_port()];
    test(move || side_by_side(Net::new(&nats, &nats)));
}

#[test]
fn side_by_side_by_a_hairpin() {
    let home = [NatSpec::port_preserving()];
    let shared = NatSpec {
        hairpinning: Hairpinning::ExternalSource,
        ..NatSpec::random_port()
    };
    test(move || side_by_side(Net::behind_one(shared, &home, &home)));
}

#[test]
fn side_by_side_between_public_hosts() {
    test(|| side_by_side(Net::new(&[], &[])));
}

/// A listener with room for one stream. It would go on with the first dial for seven seconds.
#[test]
fn a_dial_that_is_interrupted_leaves_its_place_to_the_next() {
    // Alone: the signal has to come before the connection, which takes 86 ms.
    TestRun::new().alone().run(|| {
        let net = Net::new(&[NatSpec::port_preserving()], &[NatSpec::port_preserving()]);
        let peer = net.id("b");
        for signal in ["-INT", "-HUP"] {
            let _listener = net.listen_with("b", &["--allow-any"]);
            let mut first = Process::spawn(net.command("a", &["dial", "--json", &peer]));
            first.wait_for("punching");
            process::run(Command::new("kill").args([signal, &first.pid().to_string()]));
            let first = first.finish();
            assert!(first.event("established").is_none(), "{:#?}", first.stderr);
            assert_eq!(first.code(), 130, "{:#?}", first.stderr);
            let mut second =
                Process::spawn(net.command("a", &["dial", "--json", "--timeout", "4s", &peer]));
            second.wait_for("established");
        }
        net.finish();
    });
}
