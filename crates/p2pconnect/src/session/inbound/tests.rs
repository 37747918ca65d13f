//! Tests of which session an accepted connection goes to.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::net::Ipv4Addr;

use tokio::{io::AsyncWriteExt as _, net::TcpSocket};

use super::*;
use crate::machine::loopback;

const LIMIT: Duration = Duration::from_secs(5);

struct Harness {
    inbound: Arc<Inbound>,
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Harness {
    fn start() -> Self {
        let inbound = Arc::new(Inbound::new(Arc::default()));
        let listener = loopback::listener();
        let address = listener.local_addr().unwrap();
        let mut accepting = JoinSet::new();
        accepting.spawn(Arc::clone(&inbound).accept_from(listener));
        Self {
            inbound,
            address,
            _accepting: accepting,
        }
    }

    /// Connects from an address that no peer names.
    async fn stranger(&self) -> TcpStream {
        let elsewhere = (Ipv4Addr::new(127, 0, 0, 2), 0).into();
        loopback::connect_from(elsewhere, self.address).await
    }

    /// Takes every slot that strangers have.
    async fn fill_with_strangers(&self) -> Vec<TcpStream> {
        let mut strangers = Vec::new();
        for _ in 0..MAX_STRANGERS {
            strangers.push(self.stranger().await);
        }
        // Accepted one after the other, so all are in when the first one makes room.
        strangers.push(self.stranger().await);
        drop(strangers.remove(0).peek(&mut [0]).await);
        strangers
    }
}

const fn opening(byte: u8) -> Opening {
    Opening::from_bytes([byte; Opening::LEN])
}

fn bound() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn strangers_do_not_keep_the_peer_out() {
    let harness = Harness::start();
    let (socket, remote) = bound();
    let mut inbox = harness.inbound.expect(opening(1), BTreeSet::from([remote]));
    let _strangers = harness.fill_with_strangers().await;
    let _peer = socket.connect(harness.address).await.unwrap();
    let arrival = timeout(LIMIT, inbox.next()).await.unwrap().unwrap();
    assert_eq!((arrival.remote, arrival.opening_read), (remote, false));
}

#[tokio::test]
async fn strangers_do_not_keep_a_peer_out_that_two_sessions_expect() {
    let harness = Harness::start();
    let (socket, remote) = bound();
    let _one = harness.inbound.expect(opening(1), BTreeSet::from([remote]));
    let mut other = harness.inbound.expect(opening(2), BTreeSet::from([remote]));
    let _strangers = harness.fill_with_strangers().await;
    let mut peer = socket.connect(harness.address).await.unwrap();
    peer.write_all(opening(2).as_bytes()).await.unwrap();
    let arrival = timeout(LIMIT, other.next()).await.unwrap().unwrap();
    assert_eq!((arrival.remote, arrival.opening_read), (remote, true));
}

#[tokio::test]
async fn strangers_do_not_keep_a_peer_out_whose_nat_gives_it_another_port() {
    let harness = Harness::start();
    let (socket, _) = bound();
    let _strangers = harness.fill_with_strangers().await;
    let named = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut inbox = harness.inbound.expect(opening(3), BTreeSet::from([named]));
    let mut peer = socket.connect(harness.address).await.unwrap();
    peer.write_all(opening(3).as_bytes()).await.unwrap();
    let arrival = timeout(LIMIT, inbox.next()).await.unwrap().unwrap();
    assert_eq!(
        (arrival.remote, arrival.opening_read),
        (peer.local_addr().unwrap(), true)
    );
}

#[tokio::test]
async fn other_ports_of_a_peers_address_make_room_for_each_other() {
    let harness = Harness::start();
    let named = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut inbox = harness.inbound.expect(opening(3), BTreeSet::from([named]));
    let mut silent = Vec::new();
    for _ in 0..=MAX_NEIGHBOURS {
        silent.push(loopback::connect(harness.address).await);
    }
    // It has ended.
    drop(silent[0].peek(&mut [0]).await);
    // Strangers elsewhere take nothing from them.
    let _strangers = harness.fill_with_strangers().await;
    for kept in &silent[1..] {
        let seen = timeout(Duration::ZERO, kept.peek(&mut [0])).await;
        assert!(seen.is_err(), "{seen:?}");
    }
    // The peer greets at once.
    let mut peer = loopback::connect(harness.address).await;
    peer.write_all(opening(3).as_bytes()).await.unwrap();
    let arrival = timeout(LIMIT, inbox.next()).await.unwrap().unwrap();
    assert_eq!(arrival.remote, peer.local_addr().unwrap());
}

#[tokio::test]
async fn an_opening_finds_a_session_that_begins_later() {
    let harness = Harness::start();
    let mut peer = loopback::connect(harness.address).await;
    peer.write_all(opening(1).as_bytes()).await.unwrap();
    let mut inbox = harness.inbound.expect(opening(1), BTreeSet::new());
    let arrival = timeout(LIMIT, inbox.next()).await.unwrap().unwrap();
    assert_eq!(arrival.remote, peer.local_addr().unwrap());
}

#[tokio::test]
async fn what_comes_through_a_hole_goes_to_the_session_that_it_opens_for() {
    let inbound = Arc::new(Inbound::new(Arc::default()));
    let remotes = BTreeSet::from([(Ipv4Addr::LOCALHOST, 1).into()]);
    let one = inbound.expect(opening(1), remotes.clone());
    let mut other = inbound.expect(opening(2), remotes);
    let briefly = Patience::Briefly(LIMIT);
    for patience in [Patience::Always, Patience::WhileShared, briefly] {
        let (mut peer, stream) = loopback::connection().await;
        let remote = peer.local_addr().unwrap();
        let claim = one.claim(remote, patience);
        peer.write_all(opening(2).as_bytes()).await.unwrap();
        let taken = claim.take(stream, Opened::Simultaneously).await;
        assert_eq!(taken.unwrap_err(), ConnectFailure::AddressNotAvailable);
        let arrival = timeout(LIMIT, other.next()).await.unwrap().unwrap();
        assert!(arrival.opening_read);
        assert_eq!(arrival.opened, Some(Opened::Simultaneously));
    }
    // Its own.
    let (mut peer, stream) = loopback::connection().await;
    let claim = one.claim(peer.local_addr().unwrap(), Patience::Always);
    peer.write_all(opening(1).as_bytes()).await.unwrap();
    let taken = claim.take(stream, Opened::Actively).await;
    assert!(taken.unwrap().opening_read);
}

#[tokio::test]
async fn what_has_come_through_a_hole_outlives_the_session_whose_hole_it_was() {
    let inbound = Arc::new(Inbound::new(Arc::default()));
    let remotes = BTreeSet::from([(Ipv4Addr::LOCALHOST, 1).into()]);
    let one = inbound.expect(opening(1), remotes.clone());
    let mut other = inbound.expect(opening(2), remotes);
    let (mut peer, stream) = loopback::connection().await;
    let claim = one.claim(peer.local_addr().unwrap(), Patience::Always);
    // The session ends before the peer has said whose the connection is.
    let taking = claim.take(stream, Opened::Actively);
    assert!(timeout(Duration::ZERO, taking).await.is_err());
    drop(one);
    peer.write_all(opening(2).as_bytes()).await.unwrap();
    timeout(LIMIT, other.next()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dialler_with_one_session_does_not_wait_for_who_speaks_in_a_hole() {
    let inbound = Arc::new(Inbound::new(Arc::default()));
    let remotes = BTreeSet::from([(Ipv4Addr::LOCALHOST, 1).into()]);
    let only = inbound.expect(opening(1), remotes);
    let (peer, stream) = loopback::connection().await;
    let claim = only.claim(peer.local_addr().unwrap(), Patience::WhileShared);
    let taken = claim.take(stream, Opened::Actively).await;
    assert!(!taken.unwrap().opening_read);
}

#[tokio::test]
async fn a_peer_that_waits_as_well_is_not_waited_for_without_end() {
    let inbound = Arc::new(Inbound::new(Arc::default()));
    let remotes = BTreeSet::from([(Ipv4Addr::LOCALHOST, 1).into()]);
    let one = inbound.expect(opening(1), remotes.clone());
    let _other = inbound.expect(opening(2), remotes);
    let (peer, stream) = loopback::connection().await;
    let patience = Patience::Briefly(Duration::from_millis(1));
    let claim = one.claim(peer.local_addr().unwrap(), patience);
    let taken = timeout(LIMIT, claim.take(stream, Opened::Actively)).await;
    assert!(!taken.unwrap().unwrap().opening_read);
}

#[tokio::test]
async fn who_is_accepted_before_the_introduction_came_need_not_speak_first() {
    let harness = Harness::start();
    let peer = loopback::connect(harness.address).await;
    let remote = peer.local_addr().unwrap();
    // The stranger waits before the session begins: no other change comes to its notice.
    while harness.inbound.strangers.taken() == 0 {
        tokio::task::yield_now().await;
    }
    let mut inbox = harness.inbound.expect(opening(1), BTreeSet::from([remote]));
    let arrival = timeout(LIMIT, inbox.next()).await.unwrap().unwrap();
    assert_eq!((arrival.remote, arrival.opening_read), (remote, false));
}
