//! The bulletin board over real connections.

use std::{collections::BTreeSet, time::Duration};

use p2pconnect_coordinator::{
    Config, RunningCoordinator,
    nodes::{Bus as _, MemoryBus, Unanswered},
};
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{
    PeerId,
    board::{Topic, TopicKey},
    message::{
        Announce, BOARD, Cookie, Extensions, Found, LookUp, MAX_TOPIC_CHANGES, Notice, Refusal,
        RefusalReason, Request, Response, Room, TopicChanges, Unsupported, Watch,
    },
    nodes::{NodeContent, NodeKey, SUBJECT_OF_ALL, topic_subject},
};
use tokio::sync::mpsc;

use crate::{
    IPV4,
    client::{Client, bounded},
    config,
    nodes::{KEY, member_config},
    start,
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

/// Looks for everybody, page by page; returns how many pages these are.
async fn has_everybody_once<'a>(
    asking: &Client,
    everybody: impl IntoIterator<Item = &'a Client>,
) -> usize {
    let (mut found, mut cookie, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = asking.look_up(topic().key(), u16::MAX, cookie).await;
        found.extend(page.members.iter().map(|it| it.peer));
        pages += 1;
        cookie = page.cookie;
        if cookie.is_none() {
            break;
        }
    }
    found.sort_unstable();
    let ids: BTreeSet<_> = everybody.into_iter().map(|it| it.id).collect();
    assert_eq!(found, Vec::from_iter(ids));
    pages
}

#[tokio::test]
async fn pages_have_everybody_once() {
    let mut config = config(IPV4);
    config.limits.board.max_page = 4;
    let server = start(config);
    let all = crowd(&server, 10).await;
    assert_eq!(has_everybody_once(&all[0], &all).await, 3);
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

/// Waits until a watcher knows that these are there, or are not: it is told so, or that it has to
/// look.
async fn knows<'a>(
    watcher: &Client,
    clients: impl IntoIterator<Item = &'a Client>,
    are_there: bool,
) {
    let mut unknown: BTreeSet<_> = clients.into_iter().map(|it| it.id).collect();
    bounded(async {
        while !unknown.is_empty() {
            let told = watcher.changes().await;
            let joined: Vec<_> = told.joined.iter().map(|it| it.peer).collect();
            let changed = if are_there { joined } else { told.left };
            unknown.retain(|it| !changed.contains(it));
            if told.missed {
                let found = watcher.look_up(topic().key(), u16::MAX, None).await;
                let is_found = |peer: &PeerId| found.members.iter().any(|it| it.peer == *peer);
                unknown.retain(|it| is_found(it) != are_there);
            }
        }
    })
    .await;
}

/// Two coordinators of which the second knows the first.
struct Both {
    first: RunningCoordinator,
    second: RunningCoordinator,
    /// At the second.
    watcher: Client,
}

impl Both {
    async fn new(bus: &MemoryBus) -> Self {
        let config = || {
            let mut config = patient(member_config(bus));
            config.limits.board.max_page = 4;
            config
        };
        let second = start(config());
        let watcher = Client::connect(&second).await;
        assert_eq!(watcher.watch(topic().key()).await, Response::Noted);
        let first = start(config());
        // Of whoever is there already, nobody has told.
        bounded(async { while !watcher.changes().await.missed {} }).await;
        Self {
            first,
            second,
            watcher,
        }
    }
}

#[tokio::test]
async fn several_coordinators_keep_one_board() {
    let both = Both::new(&MemoryBus::with_delay(Duration::from_millis(5))).await;
    let watcher = &both.watcher;
    let at_first = crowd(&both.first, 5).await;
    knows(watcher, &at_first, true).await;
    let mut everybody = crowd(&both.second, 5).await;
    everybody.extend(at_first);
    for asking in [watcher, &everybody[9]] {
        assert_eq!(has_everybody_once(asking, &everybody).await, 3);
    }
    let gone = everybody.remove(9);
    gone.connection.close(0_u32.into(), b"done");
    knows(watcher, [&gone], false).await;
    assert_eq!(has_everybody_once(watcher, &everybody).await, 3);

    // Who was there is gone with a coordinator, and nobody tells who that was.
    both.first.shutdown().await;
    bounded(async { while !watcher.changes().await.missed {} }).await;
    has_everybody_once(watcher, &everybody[..5]).await;
}

#[tokio::test]
async fn a_member_that_moves_is_there_until_it_has_gone_from_both() {
    let bus = MemoryBus::with_delay(Duration::from_millis(5));
    let both = Both::new(&bus).await;
    let key = SecretKey::generate().unwrap();
    let before = Client::connect_as(&key, &both.first).await;
    assert_eq!(before.announce(&topic()).await, Response::Noted);
    knows(&both.watcher, [&before], true).await;
    let moved = Client::connect_as(&key, &both.second).await;
    assert_eq!(moved.announce(&topic()).await, Response::Noted);
    // Where it has gone, watchers are told that it is elsewhere.
    let beside = Client::connect(&both.first).await;
    assert_eq!(beside.watch(topic().key()).await, Response::Noted);
    before.connection.close(0_u32.into(), b"done");
    knows(&beside, [&before], true).await;
    assert_eq!(has_everybody_once(&beside, [&moved]).await, 1);
    moved.connection.close(0_u32.into(), b"done");
    for watcher in [&beside, &both.watcher] {
        knows(watcher, [&moved], false).await;
        has_everybody_once(watcher, []).await;
    }
}

#[tokio::test]
async fn what_changes_while_others_cannot_be_reached_is_told_later() {
    let bus = MemoryBus::default();
    let both = Both::new(&bus).await;
    let one = Client::connect(&both.first).await;
    bus.set_away(true);
    assert_eq!(one.announce(&topic()).await, Response::Noted);
    assert_eq!(has_everybody_once(&one, [&one]).await, 1);
    bus.set_away(false);
    knows(&both.watcher, [&one], true).await;
    assert_eq!(has_everybody_once(&both.watcher, [&one]).await, 1);
}

#[tokio::test]
async fn others_are_listened_to_about_a_topic_while_somebody_has_to_do_with_it() {
    let bus = MemoryBus::default();
    let server = start(patient(member_config(&bus)));
    let client = Client::connect(&server).await;
    let is_heard = async || {
        let subject = topic_subject(&topic().key());
        let asked = bus.request(subject, Vec::new(), Duration::from_millis(1));
        asked.await != Err(Unanswered::NobodyThere)
    };
    assert!(!is_heard().await);
    assert_eq!(client.announce(&topic()).await, Response::Noted);
    assert_eq!(client.watch(topic().key()).await, Response::Noted);
    let withdraw = Request::Withdraw(topic().key());
    assert_eq!(client.request(&withdraw).await, Response::Noted);
    assert!(is_heard().await, "it is watched still");
    let unwatch = Request::Unwatch(topic().key());
    assert_eq!(client.request(&unwatch).await, Response::Noted);
    assert!(!is_heard().await);
    assert_eq!(client.announce(&topic()).await, Response::Noted);
    assert!(is_heard().await);
    client.connection.close(0_u32.into(), b"done");
    bounded(async { while is_heard().await {} }).await;
}

#[tokio::test]
async fn a_coordinator_that_has_said_goodbye_to_others_says_nothing_more() {
    let bus = MemoryBus::default();
    let server = start(patient(member_config(&bus)));
    let (sink, mut said) = mpsc::channel(1024);
    let subjects = [SUBJECT_OF_ALL.to_owned(), topic_subject(&topic().key())];
    let [all, of_topic] = subjects.map(|subject| bus.listen(subject, sink.clone()));
    let listening = (all.await, of_topic.await);
    let _clients = crowd(&server, 3).await;
    server.shutdown().await;
    drop((listening, sink));
    let mut last = None;
    while let Some(incoming) = said.recv().await {
        last = Some(incoming);
    }
    let last = last.unwrap();
    let unix_time = p2pconnect_host::Host::default().unix_time();
    let opened = NodeKey::from_bytes(KEY).open(last.subject.as_bytes(), &last.bytes, unix_time);
    assert_eq!(opened.unwrap().content, NodeContent::Leaving);
}
