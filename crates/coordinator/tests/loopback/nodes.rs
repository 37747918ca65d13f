//! Several coordinators that serve the same peers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_coordinator::{
    Config, RunningCoordinator,
    nodes::{Bus as _, Cluster, MemoryBus},
};
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{
    Candidate, PeerId, PunchPort, close,
    message::{DialPolicy, DialRequest, Extensions, Flight, RefusalReason, Request, Response},
    nodes::{Claim, NodeContent, NodeId, NodeKey, NodeMessage, peer_subject},
};
use p2pconnect_stun::Witness;

use crate::{
    IPV4, STRANGER, claims,
    client::{Client, bounded},
    config,
    meeting::are_told_of_each_other,
    path::Path,
    start,
};

/// How long a message takes between two coordinators.
const BETWEEN: Duration = Duration::from_millis(50);

/// What a busy machine may add.
const TOLERANCE: Duration = Duration::from_millis(20);

/// Dials of which the best counts, since the machine may be busy with other tests.
const ATTEMPTS: usize = 5;

pub(crate) const KEY: [u8; 32] = [7; 32];

pub(crate) fn member_config(bus: &MemoryBus) -> Config {
    let mut config = config(IPV4);
    config.others = Some(Cluster {
        bus: Arc::new(bus.clone()),
        key: NodeKey::from_bytes(KEY),
    });
    config
}

/// Two coordinators that know each other, and one client of each; that of the second is registered.
struct Scene {
    bus: MemoryBus,
    first: RunningCoordinator,
    second: RunningCoordinator,
    dialler: Client,
    callee: Client,
}

impl Scene {
    async fn new(bus: MemoryBus) -> Self {
        let first = start(member_config(&bus));
        let second = start(member_config(&bus));
        let dialler = Client::connect(&first).await;
        let callee = Client::connect(&second).await;
        callee.register(DialPolicy::Anyone).await;
        let scene = Self {
            bus,
            first,
            second,
            dialler,
            callee,
        };
        // The coordinators listen for each other soon after they have begun.
        bounded(async { while scene.dialler.dial(scene.callee.id).await.is_err() {} }).await;
        scene.callee.introduction().await;
        scene.be_done().await;
        scene
    }

    async fn be_done(&self) {
        be_done(&self.callee, &self.dialler).await;
    }
}

async fn be_done(callee: &Client, dialler: &Client) {
    let over = callee.request(&Request::Settled(dialler.id)).await;
    assert_eq!(over, Response::Settled);
}

#[tokio::test]
async fn peers_of_two_coordinators_are_told_of_each_other() {
    let scene = Scene::new(MemoryBus::default()).await;
    let (dialler, callee) = (&scene.dialler, &scene.callee);
    let hello = vec![1; 500];
    let at_dialler = dialler.dial_with(callee.id, hello.clone()).await.unwrap();
    let at_callee = callee.introduction().await;
    are_told_of_each_other([dialler, callee], [&at_dialler, &at_callee]);
    assert!(at_dialler.seen_together && at_callee.seen_together);
    assert_eq!((at_callee.serial, at_callee.handshake), (1, hello));

    let flight = |byte: u8| Flight {
        session: at_dialler.session,
        bytes: vec![byte; 100],
    };
    for (from, to, byte) in [(callee, dialler, 2), (dialler, callee, 3)] {
        let relayed = from.request(&Request::Relay(flight(byte))).await;
        assert_eq!(relayed, Response::Relayed);
        assert_eq!(to.flight().await, flight(byte));
    }
}

#[tokio::test]
async fn who_may_not_dial_learns_nothing_wherever_the_callee_is() {
    let scene = Scene::new(MemoryBus::with_delay(BETWEEN)).await;
    let nobody = DialPolicy::Only(Vec::new());
    scene.callee.register(nobody.clone()).await;
    let beside = Client::connect(&scene.first).await;
    beside.register(nobody).await;
    for callee in [STRANGER, scene.callee.id, beside.id] {
        let began = Instant::now();
        let refused = scene.dialler.dial(callee).await;
        assert_eq!(refused, Err(RefusalReason::Unavailable));
        let took = began.elapsed();
        assert!(took >= 2 * BETWEEN, "{callee} is refused after {took:?}");
    }
}

/// Dials a few times; returns how long the dialler, and the callee, waited for the introduction in
/// the dial in which these were nearest to each other.
async fn waits(dialler: &Client, callee: &Client) -> (Duration, Duration) {
    let mut best = (Duration::ZERO, Duration::MAX);
    for _ in 0..ATTEMPTS {
        let began = Instant::now();
        let waited = tokio::join!(
            async {
                let introduction = dialler.dial(callee.id).await.unwrap();
                let by_way = Duration::from_micros(introduction.rtt_via_coordinator_us.into());
                assert!(by_way >= 2 * BETWEEN, "{by_way:?}");
                began.elapsed()
            },
            async {
                callee.introduction().await;
                began.elapsed()
            }
        );
        be_done(callee, dialler).await;
        if waited.0.abs_diff(waited.1) < best.0.abs_diff(best.1) {
            best = waited;
        }
    }
    best
}

fn assert_about(waited: Duration, expected: Duration) {
    let is_about = waited.abs_diff(expected) < TOLERANCE;
    assert!(is_about, "{waited:?} for {expected:?}");
}

/// The dialler's coordinator asks the callee's, which tells the callee when the answer has reached
/// the dialler. Where one coordinator serves both, the callee is as far from it as from the
/// dialler's here, and an introduction takes one way less.
#[tokio::test]
async fn both_sides_start_together_though_their_coordinators_are_apart() {
    let scene = Scene::new(MemoryBus::with_delay(BETWEEN)).await;
    let (dialler, callee) = waits(&scene.dialler, &scene.callee).await;
    assert_about(dialler, 2 * BETWEEN);
    assert_about(callee, 2 * BETWEEN);

    // Half the way to a callee that is far from its coordinator takes longer than the answer.
    let far = 6 * BETWEEN;
    let path = Path::to(scene.second.local_addr(), far).await;
    let key = SecretKey::generate().unwrap();
    let callee = Client::connect_via(&key, &scene.second, path.entrance).await;
    for _ in 0..4 {
        callee.register(DialPolicy::Anyone).await;
    }
    let (dialler, callee) = waits(&scene.dialler, &callee).await;
    assert_about(dialler, BETWEEN + far / 2);
    assert_about(callee, BETWEEN + far / 2);
}

async fn register_as(key: &SecretKey, server: &RunningCoordinator) -> Client {
    let client = Client::connect_as(key, server).await;
    client.register(DialPolicy::Anyone).await;
    client
}

/// Has a peer register at another coordinator, and waits until the former one has told it. Two
/// registrations of one moment are told apart by name: it comes again then.
async fn move_to(key: &SecretKey, server: &RunningCoordinator, former: &Client) -> Client {
    loop {
        let moved = register_as(key, server).await;
        let (code, _) = tokio::select! {
            closed = former.closed() => closed,
            _ = moved.closed() => continue,
        };
        assert_eq!(code, u64::from(close::REPLACED));
        return moved;
    }
}

#[tokio::test]
async fn the_newest_registration_counts_and_the_former_coordinator_tells_its_peer() {
    let scene = Scene::new(MemoryBus::default()).await;
    let key = SecretKey::generate().unwrap();
    let mut former = register_as(&key, &scene.second).await;
    for server in [&scene.first, &scene.second] {
        let moved = move_to(&key, server, &former).await;
        let introduced = scene.dialler.dial(moved.id).await.unwrap();
        assert_eq!(introduced.candidates, moved.candidates());
        assert_eq!(moved.introduction().await.session, introduced.session);
        former = moved;
    }
    former.connection.close(0_u32.into(), b"");
    scene.dialler.dial_until_offline(key.peer_id()).await;
}

#[tokio::test]
async fn what_a_callee_has_settled_makes_room_at_both_coordinators() {
    let scene = Scene::new(MemoryBus::default()).await;
    // So many are no more than one at a time.
    for _ in 0..40 {
        scene.dialler.dial(scene.callee.id).await.unwrap();
        scene.callee.introduction().await;
        scene.be_done().await;
    }
}

#[tokio::test]
async fn two_dials_that_cross_between_coordinators_are_one_introduction() {
    let scene = Scene::new(MemoryBus::with_delay(BETWEEN)).await;
    let (one, other) = (&scene.dialler, &scene.callee);
    one.register(DialPolicy::Anyone).await;
    let dial = |callee: PeerId| Request::Dial(DialRequest::new(callee));
    let (to_other, to_one) = (dial(other.id), dial(one.id));
    let (first, second) = tokio::join!(one.request(&to_other), other.request(&to_one));
    let prevails = one.id < other.id;
    let (introduced, crossed) = if prevails {
        (first, second)
    } else {
        (second, first)
    };
    let Response::Introduced(introduced) = introduced else {
        panic!("{introduced:?}");
    };
    assert_eq!(crossed, Response::Crossed(introduced.session));
    let callee = if prevails { other } else { one };
    assert_eq!(callee.introduction().await.session, introduced.session);
}

#[tokio::test]
async fn a_dial_of_a_callee_that_was_introduced_just_before_is_served_by_that() {
    let scene = Scene::new(MemoryBus::default()).await;
    let (one, other) = (&scene.dialler, &scene.callee);
    one.register(DialPolicy::Anyone).await;
    let introduced = one.dial(other.id).await.unwrap();
    let answer = other
        .request(&Request::Dial(DialRequest::new(one.id)))
        .await;
    assert_eq!(answer, Response::Crossed(introduced.session));
}

#[tokio::test]
async fn coordinators_that_cannot_reach_each_other_say_so_and_serve_their_own_peers() {
    let scene = Scene::new(MemoryBus::default()).await;
    let beside = Client::connect(&scene.first).await;
    beside.register(DialPolicy::Anyone).await;
    scene.bus.set_away(true);
    let dial = Request::Dial(DialRequest::new(scene.callee.id));
    let Response::Refused(refusal) = scene.dialler.request(&dial).await else {
        panic!("this peer cannot be asked for");
    };
    assert_eq!(refusal.reason, RefusalReason::Apart);
    assert!(refusal.retry_after().is_some());
    scene.dialler.dial(beside.id).await.unwrap();
    scene.bus.set_away(false);
    scene.dialler.dial(scene.callee.id).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_has_moved_while_its_coordinator_was_away_is_told_later() {
    let bus = MemoryBus::default();
    let scene = Scene::new(bus.clone()).await;
    let key = SecretKey::generate().unwrap();
    let former = register_as(&key, &scene.first).await;
    loop {
        bus.set_away(true);
        let moved = register_as(&key, &scene.second).await;
        bus.set_away(false);
        tokio::select! {
            (code, _) = former.closed() => return assert_eq!(code, u64::from(close::REPLACED)),
            // They were of one moment.
            _ = moved.closed() => {}
        }
    }
}

#[tokio::test]
async fn who_has_not_the_key_of_the_nodes_moves_nobody() {
    let scene = Scene::new(MemoryBus::default()).await;
    let unix_time = p2pconnect_host::Host::default().unix_time();
    let claim = |key: [u8; 32]| {
        let claim = Claim {
            peer: scene.callee.id,
            age_ms: 0,
            is_answer: false,
            extensions: Extensions::default(),
        };
        let message = NodeMessage {
            from: NodeId::from_bytes([0xFF; 16]),
            content: NodeContent::Claim(claim),
        };
        let subject = peer_subject(&scene.callee.id);
        let sealed = NodeKey::from_bytes(key).seal(subject.as_bytes(), &message, unix_time);
        scene.bus.publish(subject, sealed.unwrap())
    };
    claim([8; 32]).await;
    scene.dialler.dial(scene.callee.id).await.unwrap();
    claim(KEY).await;
    assert_eq!(scene.callee.closed().await.0, u64::from(close::REPLACED));
}

#[tokio::test]
async fn who_waits_elsewhere_hears_that_the_other_side_is_silent() {
    let scene = Scene::new(MemoryBus::default()).await;
    let path = Path::to(scene.second.local_addr(), Duration::from_millis(10)).await;
    let key = SecretKey::generate().unwrap();
    let callee = Client::connect_via(&key, &scene.second, path.entrance).await;
    callee.register(DialPolicy::Anyone).await;
    let introduced = scene.dialler.dial(callee.id).await.unwrap();
    callee.introduction().await;
    drop(path);
    let silence = scene.dialler.silent().await;
    assert_eq!(silence.session, introduced.session);
}

#[tokio::test]
async fn a_callee_elsewhere_hears_that_its_dialler_gives_up_as_it_has_heard_nothing() {
    let scene = Scene::new(MemoryBus::default()).await;
    scene.dialler.dial(scene.callee.id).await.unwrap();
    let introduced = scene.callee.introduction().await;
    scene.dialler.connection.close(close::TIMED_OUT.into(), &[]);
    let flight = scene.callee.flight().await;
    assert_eq!(flight.session, introduced.session);
    assert!(flight.bytes.is_empty());
}

/// A dialler may claim an address that the STUN server beside another coordinator has seen.
#[tokio::test]
async fn what_the_stun_server_of_another_coordinator_has_seen_is_found_there() {
    let bus = MemoryBus::default();
    let (stun, witness) = claims::stun_server();
    let mut beside = member_config(&bus);
    beside.witness = Some(witness);
    let _beside = start(beside);
    let mut config = member_config(&bus);
    config.witness = Some(Witness::default());
    let server = start(config);
    let callee = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    let dialler = Client::connect(&server).await;
    let held = claims::held_by(&dialler, &stun).await;
    let dial = claims::dial(&callee, &[claims::SALT]);
    // The coordinators listen for each other soon after they have begun.
    let witnessed = bounded(async {
        loop {
            let answer = dialler.request(&dial).await;
            let introduction = callee.introduction().await;
            be_done(&callee, &dialler).await;
            match answer {
                Response::Introduced(it) if it.witnessed == 1 => return introduction,
                Response::Introduced(_) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    let mapped = held.current().mapped;
    let candidate = Candidate::server_reflexive(mapped, PunchPort::SPARE, None);
    assert_eq!(witnessed.await.candidates, [candidate]);
}
