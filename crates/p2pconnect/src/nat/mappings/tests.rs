//! Tests of mappings that are held at STUN servers on the loopback.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use p2pconnect_host::TcpListener;
use p2pconnect_proto::{NatMapping, message::MAX_CLAIMS};
use p2pconnect_stun::{HeldMapping, MappingConfig, StunServer, StunServerConfig, StunServerHandle};
use tokio::{io::AsyncReadExt as _, net::TcpSocket};

use super::*;

/// The primary punch port, as a server sees it.
const fn primary(server: SocketAddr) -> Key {
    Key {
        punch_port: PunchPort::PRIMARY,
        server,
    }
}

mod nat;

use nat::Nat;

/// Above anything that loopback needs on a loaded machine.
const LONG: Duration = Duration::from_secs(20);

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn server() -> (StunServerHandle, SocketAddr) {
    server_at(any_port())
}

fn server_at(address: SocketAddr) -> (StunServerHandle, SocketAddr) {
    let server = StunServer::bind(&[address], StunServerConfig::default()).unwrap();
    let address = server.local_addrs()[0];
    (server.spawn(), address)
}

/// Has mappings compared by alternates that do not answer, and returns how long that took.
async fn compare_in_vain(mappings: &Mappings) -> Duration {
    // The system takes connections, and nobody answers.
    let silent = [(); 3].map(|()| std::net::TcpListener::bind(any_port()).unwrap());
    let alternates = silent.iter().map(|it| it.local_addr().unwrap());
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    mappings.complete(alternates.collect());
    mappings.compared().await;
    began.elapsed()
}

/// Returns an address that refuses connections for as long as the socket is kept.
fn closed() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(any_port()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Returns mappings without any server, and what keeps their ports.
fn mappings() -> (Mappings, Vec<TcpListener>) {
    let (ports, listeners) = PunchPorts::open(&Host::default()).unwrap();
    let id = PeerId::from_public_key([1; 32]);
    let behaviour = Arc::new(Behaviour::new(Host::default()));
    let nat64 = Arc::new(Nat64::told("::"));
    let mappings = Mappings::new(
        &Host::default(),
        ports,
        &id,
        Observer::none(),
        behaviour,
        nat64,
    );
    (mappings, listeners)
}

async fn first(mappings: &Mappings) -> Result<(), Failure> {
    timeout(LONG, mappings.first()).await.unwrap()
}

#[tokio::test]
async fn what_a_server_of_either_family_sees_is_claimed_apart() {
    let (mappings, _listeners) = mappings();
    assert_eq!(mappings.claims().list, []);
    mappings.start("127.0.0.1:9".parse().unwrap());
    let claims = mappings.claims();
    assert_eq!(claims.list.len(), 2);
    assert!(claims.families.has(true) && !claims.families.has(false));
    mappings.start("[::1]:9".parse().unwrap());
    let claims = mappings.claims();
    let [v4, v6] = ["192.0.2.1", "2001:db8::1"].map(|it| it.parse().unwrap());
    let none = Families::default();
    assert_eq!(
        (claims.found(0, v4), claims.found(4, v4)),
        (none, claims.families)
    );
    assert_eq!(claims.found(2, v6), [v6].into_iter().collect());
    let claims = claims.list;
    let salts: BTreeSet<_> = claims.iter().map(|it| it.salt).collect();
    assert_eq!((claims.len(), salts.len()), (MAX_CLAIMS, MAX_CLAIMS));
}

#[tokio::test]
async fn a_machine_that_has_moved_is_not_known_by_its_former_commitments() {
    let (mappings, _listeners) = mappings();
    let server = "192.0.2.1:9".parse().unwrap();
    let shows = |punch_port, from: &str| {
        let from = from.parse().unwrap();
        let commitment = mappings
            .shared
            .commitment(&Key { punch_port, server }, from);
        commitment.unwrap().salt()
    };
    let at_home = shows(PunchPort::PRIMARY, "192.168.1.2");
    assert_eq!(shows(PunchPort::PRIMARY, "192.168.1.2"), at_home);
    assert_ne!(shows(PunchPort::SPARE, "192.168.1.2"), at_home);
    let away = shows(PunchPort::PRIMARY, "10.0.0.7");
    assert_ne!(away, at_home);
    assert_eq!(shows(PunchPort::PRIMARY, "10.0.0.7"), away);
    assert_ne!(shows(PunchPort::PRIMARY, "192.168.1.2"), at_home);
}

#[tokio::test]
async fn a_mapping_is_given_up_when_its_address_is_not_ours_any_more() {
    let (server, address) = server();
    // The routes choose 127.0.0.1, as if the machine had moved there.
    let formerly = "127.0.0.2:0".parse().unwrap();
    let config = MappingConfig::default();
    let held = HeldMapping::open(formerly, address, config).await.unwrap();

    let (mappings, _listeners) = mappings();
    mappings.complete(Vec::new());
    let shared = Arc::clone(&mappings.shared);
    let ends = async {
        mappings.changes().next().await;
        assert_eq!(mappings.known().len(), 1);
        drop(server);
    };
    let follow = shared.follow(primary(address), held);
    let both = async { tokio::join!(ends, follow) };
    timeout(LONG, both).await.unwrap();
    assert!(mappings.known().is_empty());
    let failure = mappings.failure();
    assert!(
        failure.is_none(),
        "it is asked from here first: {failure:?}"
    );
}

/// Holds a mapping at a server, and tries again within milliseconds when it is lost.
async fn follow_quickly(mappings: &Mappings, server: SocketAddr) -> AbortOnDrop {
    let mut config = MappingConfig::default();
    config.min_reconnect_delay = Duration::from_millis(5);
    config.max_reconnect_delay = Duration::from_millis(20);
    let held = HeldMapping::open(any_port(), server, config).await.unwrap();
    let shared = Arc::clone(&mappings.shared);
    shared.table.change_if(|table| {
        assert!(table.name(server, [PunchPort::PRIMARY].into_iter()));
        false
    });
    let mut changes = mappings.changes();
    let follow = async move { shared.follow(primary(server), held).await };
    let follow = AbortOnDrop::spawn(follow);
    timeout(LONG, changes.next()).await.unwrap();
    follow
}

async fn until(mappings: &Mappings, is_so: impl Fn() -> bool) {
    let mut changes = mappings.changes();
    let waiting = async {
        while !is_so() {
            changes.next().await;
        }
    };
    timeout(LONG, waiting).await.unwrap();
}

#[tokio::test]
async fn servers_that_died_leave_their_places_to_the_next() {
    let (dying, next) = ([server(), server()], [server(), server()]);
    let (mappings, _listeners) = mappings();
    let mut following = Vec::new();
    for (_, gone) in &dying {
        following.push(follow_quickly(&mappings, *gone).await);
    }
    for (_, address) in &next {
        mappings.start(*address);
    }
    mappings.complete(Vec::new());
    let gone = dying.each_ref().map(|(_, address)| *address);
    let is_by_the_next = |it: &Mapped| !gone.contains(&it.server);
    assert!(!mappings.known().iter().any(is_by_the_next));
    for (handle, _) in dying {
        handle.shutdown().await;
    }
    until(&mappings, || mappings.known().iter().all(is_by_the_next)).await;
    // One that came back would be a third one.
    let is_left = |server| !mappings.shared.table.borrow().is_lost(primary(server));
    until(&mappings, || gone.into_iter().all(is_left)).await;
}

#[tokio::test]
async fn a_server_that_died_is_tried_on_where_there_is_no_other() {
    let (dying, address) = server();
    let (mappings, _listeners) = mappings();
    let _follow = follow_quickly(&mappings, address).await;
    mappings.complete(Vec::new());
    let known = mappings.known();
    dying.shutdown().await;
    until(&mappings, || mappings.failure().is_some()).await;
    assert_eq!(mappings.known(), known, "it may still be true");
    let _reborn = server_at(address);
    until(&mappings, || mappings.failure().is_none()).await;
}

#[tokio::test]
async fn an_alternate_stands_in_for_a_server_that_died_until_it_is_back() {
    let ((dying, address), (_alternate, alternate)) = (server(), server());
    let (mappings, _listeners) = mappings();
    let _follow = follow_quickly(&mappings, address).await;
    mappings.complete(vec![alternate]);
    // The other port has no server but this one.
    let is_primary = |it: &Mapped| it.punch_port == PunchPort::PRIMARY;
    let told_by = |server| {
        let known = mappings.known();
        let known = known.iter().filter(|it| is_primary(it));
        known.map(|it| it.server).eq([server])
    };
    assert!(told_by(address));
    dying.shutdown().await;
    until(&mappings, || told_by(alternate)).await;
    let _reborn = server_at(address);
    until(&mappings, || told_by(address)).await;
}

/// Has a mapping held, for as long as the first future lasts, at an address that is not the one
/// that the routes choose, as after a move.
async fn moved(mappings: &Mappings, meanwhile: impl Future<Output = ()>) {
    let (_server, address) = server();
    let formerly = "127.0.0.2:0".parse().unwrap();
    let mut config = MappingConfig::default();
    // So that no answer is waited for while the clock is stopped.
    config.refresh_interval = Duration::from_secs(3600);
    let held = HeldMapping::open(formerly, address, config).await.unwrap();
    let shared = Arc::clone(&mappings.shared);
    let follow = shared.follow(primary(address), held);
    let both = async { tokio::join!(meanwhile, follow) };
    timeout(LONG, both).await.unwrap();
    assert!(mappings.known().is_empty());
}

#[tokio::test]
async fn a_dial_notices_a_move_that_broke_no_connection() {
    let (mappings, _listeners) = mappings();
    let mut began = None;
    let dial = async {
        mappings.changes().next().await;
        tokio::time::pause();
        began = Some(tokio::time::Instant::now());
        mappings.notice_moves().await;
        assert!(mappings.known().is_empty());
    };
    moved(&mappings, dial).await;
    assert_eq!(began.unwrap().elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_move_that_broke_no_connection_is_noticed_at_the_next_keepalive() {
    let (mappings, _listeners) = mappings();
    let stopped = async {
        mappings.changes().next().await;
        tokio::time::pause();
    };
    moved(&mappings, stopped).await;
}

#[tokio::test]
async fn who_refuses_explains_why_no_mapping_is_known() {
    let (mappings, _listeners) = mappings();
    let (_socket, closed) = closed();
    mappings.start(closed);
    assert!(mappings.failure().is_none(), "more may be named");
    mappings.complete(Vec::new());
    assert_eq!(first(&mappings).await.unwrap_err().server, closed);
    let failure = mappings.failure().unwrap();
    assert_eq!(failure.server, closed);
    assert_eq!(failure.error, MappingError::Refused);
}

#[tokio::test]
async fn whoever_is_named_after_servers_that_fail_is_asked() {
    let (_server, address) = server();
    let (mappings, _listeners) = mappings();
    let closed = [(); 3].map(|()| closed());
    for (_, address) in &closed {
        mappings.start(*address);
    }
    mappings.start(address);
    mappings.complete(Vec::new());
    first(&mappings).await.unwrap();
    let known = mappings.known();
    assert!(known.iter().all(|it| it.server == address), "{known:?}");
}

#[tokio::test]
async fn where_a_server_does_not_answer_an_alternate_is_asked_beside_it() {
    let (_server, address) = server();
    // One that a firewall hides, as far as can be seen, and one that refuses.
    let silent = std::net::TcpListener::bind(any_port()).unwrap();
    let (_socket, closed) = closed();
    for first_asked in [silent.local_addr().unwrap(), closed] {
        let (mappings, _listeners) = mappings();
        mappings.start(first_asked);
        mappings.complete(vec![address]);
        let began = std::time::Instant::now();
        first(&mappings).await.unwrap();
        // The first one is given up after 5 s.
        assert!(began.elapsed() < Duration::from_secs(4), "it took too long");
        assert!(mappings.known().iter().all(|it| it.server == address));
    }
}

#[tokio::test]
async fn an_alternate_is_for_comparison_where_the_others_answer() {
    let (_server, address) = server();
    let (_alternate, alternate) = server();
    let (mappings, _listeners) = mappings();
    mappings.start(address);
    first(&mappings).await.unwrap();
    mappings.complete(vec![alternate]);
    timeout(LONG, mappings.compared()).await.unwrap();
    assert!(mappings.known().iter().all(|it| it.server == address));
}

#[tokio::test]
async fn a_port_that_was_the_same_by_chance_is_not_believed() {
    let ((_server, address), (_alternate, alternate)) = (server(), server());
    let nat = Nat::default();
    let [address, alternate] = [address, alternate].map(|it| nat.lead_to(it));
    let (mappings, _listeners) = mappings();
    mappings.start(address);
    let both = [PunchPort::PRIMARY, PunchPort::SPARE];
    for punch_port in both {
        let mapped = mappings.mapped(|it| it.punch_port == punch_port);
        timeout(LONG, mapped).await.unwrap();
    }
    let known = mappings.known();
    let mut primary = known.iter().filter(|it| it.punch_port == both[0]);
    nat.keep_by_chance(primary.next().unwrap().local);
    mappings.complete(vec![alternate]);
    timeout(LONG, mappings.compared()).await.unwrap();
    let report = mappings.shared.behaviour.report();
    let expected = Some(NatMapping::AddressAndPortDependent);
    assert_eq!(report.mapping, expected);
}

#[tokio::test]
async fn whether_a_port_is_the_same_for_all_is_known_before_the_alternates_are_named() {
    let ((_server, address), (_alternate, alternate)) = (server(), server());
    let nat = Nat::default();
    let [address, alternate] = [address, alternate].map(|it| nat.lead_to(it));
    let (mappings, _listeners) = mappings();
    let mut reports = mappings.shared.behaviour.reports();
    mappings.presume(alternate, Arc::default());
    mappings.start(address);
    let known = reports.wait_for(|report| report.mapping.is_some());
    timeout(LONG, known).await.unwrap();
    let expected = Some(NatMapping::EndpointIndependent);
    assert_eq!(mappings.shared.behaviour.report().mapping, expected);
    // The comparison relies on the answer, and does not ask again.
    mappings.complete(vec![alternate]);
    timeout(LONG, mappings.compared()).await.unwrap();
    let known = mappings.known();
    let mut primary = known
        .iter()
        .filter(|it| it.punch_port == PunchPort::PRIMARY);
    let local = primary.next().unwrap().local;
    let early = mappings.shared.early.answer(local, alternate, None).await;
    assert_eq!(early, None);
}

#[tokio::test]
async fn the_early_answer_counts_for_as_long_as_somebody_goes_on_with_its_connection() {
    let ((_server, address), (_alternate, alternate)) = (server(), server());
    let (mappings, _listeners) = mappings();
    let offers = Arc::new(Offers::default());
    mappings.presume(alternate, Arc::clone(&offers));
    mappings.start(address);
    timeout(LONG, offers.late(alternate)).await.unwrap();
    let mut onward = timeout(LONG, offers.take(alternate))
        .await
        .unwrap()
        .unwrap();
    let local = onward.as_ref().local_addr().unwrap();
    // The answer comes by what goes on.
    let reading = tokio::spawn(async move {
        let end = onward.read(&mut [0; 1]).await;
        (end.is_err(), onward)
    });
    first(&mappings).await.unwrap();
    let mut reports = mappings.shared.behaviour.reports();
    let known = reports.wait_for(|report| report.mapping.is_some());
    timeout(LONG, known).await.unwrap();
    let early = &mappings.shared.early;
    let (outside, moved) = (Some(local.ip()), Some([192, 0, 2, 1].into()));
    for _ in 0..3 {
        assert_eq!(early.answer(local, alternate, outside).await, Some(local));
    }
    assert_eq!(early.answer(local, alternate, moved).await, None);
    reading.abort();
    drop(reading.await);
    assert_eq!(early.answer(local, alternate, outside).await, None);
}

#[tokio::test]
async fn a_presumed_alternate_that_does_not_answer_holds_up_no_mapping() {
    let (_server, address) = server();
    let silent = std::net::TcpListener::bind(any_port()).unwrap();
    let (mappings, _listeners) = mappings();
    mappings.presume(silent.local_addr().unwrap(), Arc::default());
    mappings.start(address);
    first(&mappings).await.unwrap();
    mappings.complete(Vec::new());
    timeout(QUERY_LIMIT, mappings.compared()).await.unwrap();
}

#[tokio::test]
async fn it_is_certain_that_no_server_answers_when_the_alternates_have_failed_too() {
    let (mappings, _listeners) = mappings();
    let ((_one, one), (_other, other)) = (closed(), closed());
    mappings.start(one);
    mappings.complete(vec![other]);
    first(&mappings).await.unwrap_err();
    let failure = mappings.failure().unwrap();
    assert!([one, other].contains(&failure.server), "{failure:?}");
}

#[tokio::test]
async fn alternates_that_do_not_answer_cost_their_time_once() {
    let (_server, address) = server();
    let (mappings, _listeners) = mappings();
    mappings.start(address);
    first(&mappings).await.unwrap();
    let took = compare_in_vain(&mappings).await;
    assert!(took >= QUERY_LIMIT, "they were not asked: {took:?}");
    assert!(took < 2 * QUERY_LIMIT, "one after the other: {took:?}");
}

#[tokio::test]
async fn what_ipv6_shows_is_not_all_where_there_is_ipv4() {
    let (_v4, v4) = server();
    let (_v6, v6) = server_at((Ipv6Addr::LOCALHOST, 0).into());
    let (mappings, _listeners) = mappings();
    let mut changes = mappings.changes();
    mappings.start(v6);
    mappings.start(v4);
    let all_held = async {
        while mappings.known().len() < 4 {
            changes.next().await;
        }
    };
    timeout(LONG, all_held).await.unwrap();
    let took = compare_in_vain(&mappings).await;
    assert!(took >= QUERY_LIMIT, "IPv4 was not compared: {took:?}");
}

#[tokio::test]
async fn without_ipv4_there_is_nothing_to_wait_for() {
    let (_v6, v6) = server_at((Ipv6Addr::LOCALHOST, 0).into());
    let (mappings, _listeners) = mappings();
    mappings.start(v6);
    mappings.complete(Vec::new());
    timeout(LONG, mappings.compared()).await.unwrap();
}

#[tokio::test]
async fn ipv4_that_does_not_answer_is_not_waited_for() {
    let (_v6, v6) = server_at((Ipv6Addr::LOCALHOST, 0).into());
    let (_v4, v4) = closed();
    let (mappings, _listeners) = mappings();
    mappings.start(v6);
    mappings.start(v4);
    mappings.complete(Vec::new());
    timeout(LONG, mappings.compared()).await.unwrap();
    let network = timeout(LONG, mappings.other_network(None)).await.unwrap();
    assert_eq!(network.server, v6);
}

#[tokio::test]
async fn a_nat_that_begins_anew_is_judged_anew() {
    let (_one, one) = server();
    let (_other, other) = server();
    let nat = Nat::default();
    let (one, other) = (nat.lead_to(one), nat.lead_to(other));
    let (mappings, _listeners) = mappings();
    mappings.start(one);
    mappings.complete(vec![other]);
    timeout(LONG, mappings.compared()).await.unwrap();
    let mut reports = mappings.shared.behaviour.reports();
    let stays = |report: &NatReport| report.mapping == Some(NatMapping::EndpointIndependent);
    assert!(stays(&reports.borrow()));

    let former = mappings.known()[0].mapped;
    let mut changes = mappings.changes();
    nat.begin_anew();
    let judged = async {
        while mappings.known()[0].mapped == former {
            changes.next().await;
        }
        reports.wait_for(stays).await;
    };
    timeout(LONG, judged).await.unwrap();
}
