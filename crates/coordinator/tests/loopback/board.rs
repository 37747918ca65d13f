//! The bulletin board over real connections.

use std::{collections::BTreeSet, time::Duration};

use p2pconnect_coordinator::{Config, RunningCoordinator};
use p2pconnect_proto::{
    PeerId,
    board::{Topic, TopicKey},
    message::{
        Announce, BOARD, Cookie, Extensions, Found, LookUp, MAX_TOPIC_CHANGES, Notice, Refusal,
        RefusalReason, Request, Response, Room, TopicChanges, Unsupported, Watch,
    },
};

use crate::{
    IPV4,
    client::{Client, bounded},
    config, start,
};

/// Returns a configuration of a coordinator that may be asked again and again.
fn patient(mut config: Config) -> Config {
    config.limits.board.interval_per_peer = Duration::ZERO;
    config
}

fn topic() -> Topic {
    Topic::with_secret("chess", b"secret")
}

impl Client {
    async fn announce(&self, topic: &Topic) -> Response {
        let announce = Announce {
            topic: topic.key(),
            proof: topic.proof(&self.id),
            extensions: Extensions::default(),
        };
        self.request(&Request::Announce(announce)).await
    }

    async fn look_up(&self, topic: TopicKey, most: u16, cookie: Option<Cookie>) -> Found {
        let look_up = LookUp {
            topic,
            most,
            cookie,
            extensions: Extensions::default(),
        };
        match self.request(&Request::LookUp(look_up)).await {
            Response::Found(found) => found,
            other => panic!("{other:?}"),
        }
    }

    async fn watch(&self, topic: TopicKey) -> Response {
        let watch = Watch {
            topic,
            extensions: Extensions::default(),
        };
        self.request(&Request::Watch(watch)).await
    }

    /// Reads notices up to the next changes of a topic.
    async fn changes(&self) -> TopicChanges {
        loop {
            if let Notice::Topic(changes) = self.notice().await {
                return changes;
            }
        }
    }
}

fn refused(response: Response) -> RefusalReason {
    match response {
        Response::Refused(Refusal { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Returns who is on the board, as soon as they are so many.
async fn members(asking: &Client, count: usize) -> Vec<PeerId> {
    bounded(async {
        loop {
            let found = asking.look_up(topic().key(), 64, None).await;
            if found.members.len() == count {
                assert!(found.members.iter().all(|it| topic().has(it)));
                return found.members.iter().map(|it| it.peer).collect();
            }
        }
    })
    .await
}

#[tokio::test]
async fn who_announces_is_found_and_told_of_until_its_connection_ends() {
    let server = start(patient(config(IPV4)));
    let asking = Client::connect(&server).await;
    let features = asking.welcome().await.features;
    assert!(features.contains(&BOARD), "{features:?}");
    assert_eq!(asking.watch(topic().key()).await, Response::Noted);
    assert_eq!(members(&asking, 0).await, []);

    let [one, other] = [
        Client::connect(&server).await,
        Client::connect(&server).await,
    ];
    assert_eq!(one.announce(&topic()).await, Response::Noted);
    assert_eq!(members(&asking, 1).await, [one.id]);
    let told = asking.changes().await;
    assert_eq!(told.topic, topic().key());
    assert!(topic().has(&told.joined[0]) && !told.missed);
    // Whoever knows the name alone is somewhere else.
    let beside = Topic::new("chess");
    assert_eq!(other.announce(&beside).await, Response::Noted);
    assert_eq!(members(&asking, 1).await, [one.id]);
    assert_eq!(other.announce(&topic()).await, Response::Noted);
    assert_eq!(asking.changes().await.joined[0].peer, other.id);

    let withdraw = Request::Withdraw(topic().key());
    assert_eq!(other.request(&withdraw).await, Response::Noted);
    assert_eq!(asking.changes().await.left, [other.id]);
    one.connection.close(0_u32.into(), b"done");
    assert_eq!(asking.changes().await.left, [one.id]);
    assert_eq!(members(&asking, 0).await, []);
    // What is not there can be ended all the same.
    let unwatch = Request::Unwatch(topic().key());
    for request in [&withdraw, &unwatch, &unwatch] {
        assert_eq!(asking.request(request).await, Response::Noted);
    }
}

async fn crowd(server: &RunningCoordinator, count: usize) -> Vec<Client> {
    let mut all = Vec::new();
    for _ in 0..count {
        let client = Client::connect(server).await;
        assert_eq!(client.announce(&topic()).await, Response::Noted);
        all.push(client);
    }
    all
}

#[tokio::test]
async fn pages_have_everybody_once() {
    let mut config = config(IPV4);
    config.limits.board.max_page = 4;
    let server = start(config);
    let all = crowd(&server, 10).await;
    let (mut found, mut cookie, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = all[0].look_up(topic().key(), u16::MAX, cookie).await;
        found.extend(page.members.iter().map(|it| it.peer));
        pages += 1;
        cookie = page.cookie;
        if cookie.is_none() {
            break;
        }
    }
    assert_eq!((found.len(), pages), (10, 3));
    let ids: BTreeSet<_> = all.iter().map(|it| it.id).collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), ids);
}

#[tokio::test]
async fn what_there_is_no_room_for_is_refused_by_name() {
    let mut config = config(IPV4);
    config.limits.board.max_members = 1;
    config.limits.board.max_topics_per_peer = 1;
    config.limits.board.burst_per_peer = 4;
    config.limits.board.interval_per_peer = Duration::from_secs(3600);
    let server = start(config);
    let all = crowd(&server, 1).await;
    let other = Client::connect(&server).await;
    let no_room = RefusalReason::NoRoom;
    let answer = other.announce(&topic()).await;
    assert_eq!(refused(answer), no_room(Room::Topic));
    let answer = all[0].announce(&Topic::new("go")).await;
    assert_eq!(refused(answer), no_room(Room::Peer));
    // Asking counts, whatever comes of it.
    assert_eq!(all[0].announce(&topic()).await, Response::Noted);
    assert_eq!(all[0].watch(topic().key()).await, Response::Noted);
    match all[0].watch(topic().key()).await {
        Response::Refused(refusal) => {
            assert_eq!(refusal.reason, RefusalReason::TooMany);
            assert!(refusal.retry_after() > Some(Duration::from_secs(3000)));
        }
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn a_coordinator_without_a_board_knows_no_such_request() {
    let mut config = config(IPV4);
    config.limits.board.max_entries = 0;
    let server = start(config);
    let client = Client::connect(&server).await;
    assert!(!client.welcome().await.features.contains(&BOARD));
    let unknown = |kind| RefusalReason::Unsupported(Unsupported::Request(kind));
    assert_eq!(refused(client.announce(&topic()).await), unknown(4));
    assert_eq!(refused(client.watch(topic().key()).await), unknown(7));
    let unwatch = Request::Unwatch(topic().key());
    assert_eq!(refused(client.request(&unwatch).await), unknown(8));
}

#[tokio::test]
async fn a_watcher_that_takes_nothing_holds_up_nobody_and_is_told_of_a_gap() {
    let server = start(patient(config(IPV4)));
    // It has room for the welcome alone.
    let deaf = Client::connect_deaf(&server).await;
    assert_eq!(deaf.watch(topic().key()).await, Response::Noted);
    let watcher = Client::connect(&server).await;
    assert_eq!(watcher.watch(topic().key()).await, Response::Noted);
    let one = Client::connect(&server).await;
    for n in 0..=MAX_TOPIC_CHANGES {
        // Each with an id of its own.
        let passing = Client::connect(&server).await;
        assert_eq!(passing.announce(&topic()).await, Response::Noted, "{n}");
    }
    assert_eq!(one.announce(&topic()).await, Response::Noted);
    bounded(async {
        loop {
            let told = watcher.changes().await;
            if told.joined.iter().any(|it| it.peer == one.id) {
                break;
            }
        }
    })
    .await;
    bounded(async { while !deaf.changes().await.missed {} }).await;
}
