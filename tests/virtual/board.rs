//! Peers find each other by a topic, through a coordinator that cannot tell which.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use p2pconnect::{
    CoordinatorAddr, CoordinatorError, DialPolicy, Endpoint, PeerId, RefusalReason, Room,
    SecretKey, Topic, TopicEvent, Watch,
};
use p2pconnect_coordinator::{Config, Coordinator, Limits, RunningCoordinator};
use p2pconnect_proto::{
    TokenKey,
    board::{Member, MemberProof},
    message::{BOARD, Found, Notice, Request, Response, TopicChanges},
};
use p2pconnect_tests::{kinds::PUBLIC, virtual_ground::VirtualGround};
use tokio::time::{sleep, timeout};

use crate::later::{Later, welcome};

/// Where the coordinator is that a test starts.
const PORT: u16 = 4434;

const LONG: Duration = Duration::from_secs(60);

fn topic() -> Topic {
    Topic::with_secret("chess", b"secret")
}

async fn next(watch: &mut Watch) -> TopicEvent {
    let event = timeout(LONG, watch.next()).await.expect("it is told soon");
    event.expect("the endpoint is there")
}

async fn page(endpoint: &Endpoint) -> Vec<PeerId> {
    endpoint.lookup(&topic()).page().await.unwrap()
}

/// A coordinator on the host `b`.
fn start(ground: &VirtualGround, limits: Limits) -> (RunningCoordinator, CoordinatorAddr) {
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let mut config = Config::new(
        listen,
        ground.key("server of b"),
        TokenKey::from_bytes([1; 32]),
    );
    config.limits = limits;
    config.host = ground.programs.host("b", 2);
    let running = Coordinator::bind(config).unwrap().start();
    let ip = ground.programs.with(|world| {
        let host = world.find_host("b").unwrap();
        world.addresses(host)[0]
    });
    let address = CoordinatorAddr::at(running.server_id(), (ip, PORT).into());
    (running, address)
}

/// An endpoint on `a` that nobody dials.
async fn endpoint(ground: &VirtualGround, address: &CoordinatorAddr, program: u64) -> Endpoint {
    let builder = Endpoint::builder()
        .host(ground.programs.host("a", program))
        .coordinator(address.clone())
        .secret_key(SecretKey::generate().unwrap());
    builder.bind().await.unwrap()
}

#[test]
fn peers_find_each_other_by_a_topic_alone() {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let listening = ground.endpoint("a").allow(DialPolicy::Anyone);
        let listening = listening.bind().await.unwrap();
        let dialling = ground.endpoint("b").bind().await.unwrap();
        let mut watch = dialling.watch(&topic()).await.unwrap();
        assert_eq!(page(&dialling).await, []);

        let announced = listening.announce(&topic()).await.unwrap();
        let joined = TopicEvent::Joined(listening.peer_id());
        assert_eq!(next(&mut watch).await, joined);
        let found = page(&dialling).await;
        assert_eq!(found, [listening.peer_id()]);
        // It knows itself.
        assert_eq!(page(&listening).await, []);
        let (dialled, accepted) = tokio::join!(dialling.dial(found[0]), listening.accept());
        dialled.unwrap();
        assert_eq!(accepted.unwrap().peer_id(), dialling.peer_id());

        // Of two that want the same, one goes on.
        let again = listening.announce(&topic()).await.unwrap();
        drop(announced);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(page(&dialling).await, found);
        drop(again);
        let left = TopicEvent::Left(listening.peer_id());
        assert_eq!(next(&mut watch).await, left);
        let _announced = listening.announce(&topic()).await.unwrap();
        assert_eq!(next(&mut watch).await, joined);
        listening.close().await;
        assert_eq!(next(&mut watch).await, left);
        dialling.close().await;
        assert_eq!(watch.next().await, None);
    });
}

#[test]
fn what_is_wanted_of_the_board_is_wanted_of_the_next_coordinator_too() {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let (running, address) = start(&ground, Limits::default());
        let one = endpoint(&ground, &address, 1).await;
        let other = endpoint(&ground, &address, 2).await;
        let _announced = one.announce(&topic()).await.unwrap();
        let mut watch = other.watch(&topic()).await.unwrap();
        running.shutdown().await;
        let (_running, _) = start(&ground, Limits::default());
        // The next comes when both are back, in whatever order.
        assert_eq!(next(&mut watch).await, TopicEvent::Missed);
        let mut found = page(&other).await;
        if found.is_empty() {
            assert_eq!(next(&mut watch).await, TopicEvent::Joined(one.peer_id()));
            found = page(&other).await;
        }
        assert_eq!(found, [one.peer_id()]);
    });
}

#[test]
fn what_a_coordinator_does_not_do_is_named() {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let mut limits = Limits::default();
        limits.board.max_members = 1;
        let (running, address) = start(&ground, limits.clone());
        let one = endpoint(&ground, &address, 1).await;
        let other = endpoint(&ground, &address, 2).await;
        let announced = one.announce(&topic()).await.unwrap();
        match other.announce(&topic()).await.unwrap_err() {
            CoordinatorError::Refused(refusal) => {
                assert_eq!(refusal.reason, RefusalReason::NoRoom(Room::Topic));
            }
            error => panic!("{error}"),
        }
        drop(announced);
        sleep(Duration::from_secs(1)).await;
        let _announced = other.announce(&topic()).await.unwrap();
        running.shutdown().await;

        limits.board.max_entries = 0;
        let (_running, _) = start(&ground, limits);
        let error = timeout(LONG, one.watch(&topic()))
            .await
            .unwrap()
            .unwrap_err();
        assert!(matches!(error, CoordinatorError::NoBoard), "{error}");
        let error = one.lookup(&topic()).page().await.unwrap_err();
        assert!(matches!(error, CoordinatorError::NoBoard), "{error}");
    });
}

#[test]
fn a_coordinator_that_does_not_know_the_board_is_asked_nothing() {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let notices = vec![Notice::Welcome(welcome(&ground))];
        let mut older = Later::start(&ground, notices, |_| (None, Response::Noted));
        let endpoint = older.dialler(&ground).await;
        let error = endpoint.announce(&topic()).await.unwrap_err();
        assert!(matches!(error, CoordinatorError::NoBoard), "{error}");
        let asked = older.asked().await;
        assert!(asked.iter().all(|it| matches!(it, Request::Unknown(_))));
        older.was_not_left();
    });
}

#[test]
fn members_that_a_coordinator_makes_up_are_left_out() {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let [real, made_up] = [1, 2].map(|n| PeerId::from_public_key([n; 32]));
        let members = [
            Member {
                peer: made_up,
                proof: MemberProof([7; 16]),
            },
            // The proof of another one, and of another topic.
            Member {
                peer: made_up,
                proof: topic().proof(&real),
            },
            Member {
                peer: made_up,
                proof: Topic::new("chess").proof(&made_up),
            },
            Member {
                peer: real,
                proof: topic().proof(&real),
            },
        ];
        let mut welcome = welcome(&ground);
        welcome.features = vec![BOARD];
        let later =
            Later::start(
                &ground,
                vec![Notice::Welcome(welcome)],
                move |request| match request {
                    Request::Watch(watch) => {
                        let changes = TopicChanges {
                            joined: members.to_vec(),
                            ..TopicChanges::new(watch.topic)
                        };
                        (Some(Notice::Topic(changes)), Response::Noted)
                    }
                    _ => {
                        let members = members.to_vec();
                        let found = Found {
                            members,
                            ..Found::default()
                        };
                        (None, Response::Found(found))
                    }
                },
            );
        let endpoint = later.dialler(&ground).await;
        let mut watch = endpoint.watch(&topic()).await.unwrap();
        assert_eq!(next(&mut watch).await, TopicEvent::Joined(real));
        assert_eq!(page(&endpoint).await, [real]);
        let soon = timeout(Duration::from_secs(5), watch.next()).await;
        assert!(soon.is_err(), "{soon:?}");
    });
}
