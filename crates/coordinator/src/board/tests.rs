//! Tests of the bulletin board: who is found, who is told, and within what limits.

mod model;

use std::time::Duration;

use p2pconnect_proto::message::{Cookie, Extension, MAX_TOPIC_CHANGES, Unsupported};

use super::*;

fn topic(n: u8) -> TopicKey {
    TopicKey::from_bytes([n; 32])
}

fn peer(n: u16) -> PeerId {
    let [high, low] = n.to_be_bytes();
    let mut key = [7; 32];
    (key[0], key[31]) = (high, low);
    PeerId::from_public_key(key)
}

/// Peer `n` on its connection `c`, in a network of its own.
fn client(n: u16, c: u64) -> Client {
    let [high, low] = n.to_be_bytes();
    Client {
        peer: peer(n),
        connection: ConnectionId(c),
        seen: ([192, 0, high, low], 4433).into(),
    }
}

/// Some limits, and none on how often the board is asked.
fn limits() -> BoardLimits {
    BoardLimits {
        interval_per_peer: Duration::ZERO,
        ..BoardLimits::default()
    }
}

struct Scene {
    board: Board,
    now: Instant,
}

impl Scene {
    fn new(limits: BoardLimits) -> Self {
        Self {
            board: Board::new(limits),
            now: Instant::now(),
        }
    }

    fn announce(&mut self, client: &Client, n: u8) -> Result<Effect, RefusalReason> {
        self.announce_with(client, n, [1; 16])
    }

    fn announce_with(
        &mut self,
        client: &Client,
        n: u8,
        proof: [u8; 16],
    ) -> Result<Effect, RefusalReason> {
        let announce = Announce {
            topic: topic(n),
            proof: MemberProof(proof),
            extensions: Extensions::default(),
        };
        let announced = self.board.announce(client, &announce, self.now);
        announced.map_err(|it| it.reason)
    }

    fn watch(&mut self, client: &Client, n: u8) -> Result<(), RefusalReason> {
        let watch = Watch {
            topic: topic(n),
            extensions: Extensions::default(),
        };
        let watched = self.board.watch(client, &watch, self.now);
        watched.map_err(|it| it.reason)
    }

    /// Returns who is on one page.
    fn page(&self, n: u8, from: Position, most: u16) -> Found {
        self.board.page(&topic(n), from, most)
    }

    /// Returns all members by their pages.
    fn all(&self, n: u8, random: u8, most: u16) -> Vec<PeerId> {
        pages(Position::random([random; 8]), |from| {
            self.page(n, from, most)
        })
    }
}

/// Returns what is on all pages, one behind the other.
fn pages(from: Position, mut page: impl FnMut(Position) -> Found) -> Vec<PeerId> {
    let (mut all, mut from) = (Vec::new(), Some(from));
    while let Some(position) = from {
        let found = page(position);
        all.extend(found.members.iter().map(|it| it.peer));
        from = found.cookie.map(Position::of_cookie);
    }
    all
}

fn sorted(mut peers: Vec<PeerId>) -> Vec<PeerId> {
    peers.sort_unstable();
    peers
}

fn peers(numbers: impl Iterator<Item = u16>) -> Vec<PeerId> {
    sorted(numbers.map(peer).collect())
}

#[test]
fn an_entry_lasts_as_long_as_the_connection_that_it_was_made_over() {
    let mut scene = Scene::new(limits());
    let (old, new, watcher) = (client(1, 1), client(1, 2), client(9, 9));
    scene.watch(&watcher, 1).unwrap();
    assert_eq!(scene.announce(&old, 1).unwrap().wake, [watcher.connection]);
    // Somebody who has connected anew before the end of the former connection is noticed.
    assert_eq!(scene.announce(&new, 1).unwrap(), Effect::default());
    assert_eq!(scene.board.forget(old.connection).0, Effect::default());
    assert_eq!(scene.all(1, 0, 9), [peer(1)]);
    let told = scene.board.take(watcher.connection).unwrap();
    assert_eq!(told.joined.len(), 1);
    let (effect, topics) = scene.board.forget(new.connection);
    assert_eq!(effect.wake, [watcher.connection]);
    assert_eq!(effect.changes[0].left, [peer(1)]);
    assert_eq!(topics, [topic(1)].into());
    assert!(scene.all(1, 0, 9).is_empty());
    scene.board.forget(watcher.connection);
    assert!(!scene.board.knows(&topic(1)));
    assert_eq!(scene.board.len(), (0, 0));
}

#[test]
fn whoever_withdraws_or_unwatches_is_forgotten_and_others_are_not() {
    let mut scene = Scene::new(limits());
    let (one, other) = (client(1, 1), client(2, 2));
    for client in [one, other] {
        scene.announce(&client, 1).unwrap();
    }
    for client in [one, other] {
        scene.watch(&client, 1).unwrap();
    }
    let effect = scene.board.withdraw(&one, topic(1));
    assert_eq!(effect.wake, [one.connection, other.connection]);
    assert_eq!(scene.board.withdraw(&one, topic(1)), Effect::default());
    scene.board.unwatch(&one, topic(1));
    assert_eq!(scene.board.take(one.connection), None, "it wants no more");
    assert!(scene.board.take(other.connection).is_some());
    assert_eq!(scene.all(1, 0, 9), [peer(2)]);
    assert_eq!(scene.board.len(), (1, 1));
    // What was on its way when it ended the watch does not come back.
    scene.board.lost(one.connection, topic(1));
    assert_eq!(scene.board.take(one.connection), None);
}

#[test]
fn there_is_room_for_so_many_and_what_is_full_is_named() {
    let room = |room| Err(RefusalReason::NoRoom(room));
    let mut scene = Scene::new(BoardLimits {
        max_entries: 6,
        max_entries_per_network: 4,
        max_topics_per_peer: 3,
        max_members: 2,
        max_watchers: 2,
        ..limits()
    });
    let one = client(1, 1);
    for n in 1..=3 {
        scene.announce(&one, n).unwrap();
        scene.watch(&one, n).unwrap();
    }
    let none = Effect::default();
    assert_eq!(scene.announce(&one, 3), Ok(none), "it is there already");
    let refused = |result: Result<Effect, _>| result.map(drop);
    assert_eq!(refused(scene.announce(&one, 4)), room(Room::Peer));
    assert_eq!(scene.watch(&one, 4), room(Room::Peer));
    // Another connection from the same place.
    let beside = client(1, 2);
    scene.announce(&beside, 4).unwrap();
    scene.watch(&beside, 4).unwrap();
    assert_eq!(refused(scene.announce(&beside, 5)), room(Room::Network));
    assert_eq!(scene.watch(&beside, 5), room(Room::Network));
    let (second, third) = (client(2, 3), client(3, 4));
    scene.announce(&second, 1).unwrap();
    scene.watch(&second, 1).unwrap();
    assert_eq!(refused(scene.announce(&third, 1)), room(Room::Topic));
    assert_eq!(scene.watch(&third, 1), room(Room::Topic));
    scene.announce(&second, 6).unwrap();
    assert_eq!(refused(scene.announce(&third, 7)), room(Room::Board));
    // What ends makes room.
    scene.board.forget(one.connection);
    scene.announce(&third, 1).unwrap();
    scene.watch(&third, 1).unwrap();
}

#[test]
fn asking_too_often_is_refused_with_the_time_to_come_back() {
    let second = Duration::from_secs(1);
    let mut scene = Scene::new(BoardLimits {
        burst_per_peer: 2,
        interval_per_peer: second,
        ..BoardLimits::default()
    });
    let one = client(1, 1);
    scene.announce(&one, 1).unwrap();
    scene.watch(&one, 1).unwrap();
    let look_up = LookUp {
        topic: topic(1),
        most: 9,
        cookie: None,
        extensions: Extensions::default(),
    };
    let refusal = scene.board.position(&one, &look_up, [0; 8], scene.now);
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::TooMany);
    assert_eq!(refusal.retry_after(), Some(second));
    // Others in the same network have theirs, eight times as much together.
    let taken = (10..20).filter(|&n| {
        let beside = Client {
            seen: one.seen,
            ..client(n, n.into())
        };
        scene.watch(&beside, 1).is_ok() && scene.watch(&beside, 2).is_ok()
    });
    assert_eq!(taken.count(), 7);
    scene.now += second;
    assert!(
        scene
            .board
            .position(&one, &look_up, [0; 8], scene.now)
            .is_ok()
    );
}

#[test]
fn an_extension_that_must_not_be_passed_over_is_refused() {
    let mut scene = Scene::new(limits());
    let extension = Extension {
        kind: 0x8001,
        value: Vec::new(),
    };
    let watch = Watch {
        topic: topic(1),
        extensions: Extensions(vec![extension]),
    };
    let refused = scene.board.watch(&client(1, 1), &watch, scene.now);
    let unknown = Unsupported::Extension(0x8001);
    assert_eq!(
        refused.unwrap_err().reason,
        RefusalReason::Unsupported(unknown)
    );
}

#[test]
fn pages_have_every_member_once_in_an_order_of_their_own() {
    let mut scene = Scene::new(limits());
    for n in 0..100 {
        scene.announce(&client(n, n.into()), 1).unwrap();
    }
    let mut firsts = BTreeSet::new();
    for random in 0..50 {
        for most in [1, 7, 64] {
            let all = scene.all(1, random, most);
            firsts.insert(all[0]);
            assert_eq!(sorted(all), peers(0..100), "{random} {most}");
        }
    }
    assert!(firsts.len() > 25, "{}", firsts.len());
    let from = Position::random([3; 8]);
    assert_eq!(scene.page(1, from, 0).members.len(), 1);
    let most = limits().max_page;
    assert_eq!(scene.page(1, from, u16::MAX).members.len(), most);
    assert_eq!(scene.page(2, from, 9), Found::default());
    // Whatever somebody takes for a cookie.
    let end = Position::of_cookie(Cookie([0xFF; 16]));
    assert_eq!(scene.page(1, end, 9), Found::default());
}

#[test]
fn every_member_is_as_likely_to_be_in_the_sample_as_any_other() {
    const ROUNDS: u16 = 2_000;
    let mut scene = Scene::new(limits());
    for n in 0..40 {
        scene.announce(&client(n, n.into()), 1).unwrap();
    }
    let mut times = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut random = [0; 8];
        random[6..].copy_from_slice(&round.to_be_bytes());
        for member in scene.page(1, Position::random(random), 4).members {
            *times.entry(member.peer).or_insert(0) += 1;
        }
    }
    // 200 times each, with a standard deviation of 13.
    assert_eq!(times.len(), 40);
    assert!(
        times.values().all(|it| (140..260).contains(it)),
        "{times:?}"
    );
}

#[test]
fn who_stays_is_found_once_whoever_comes_and_goes_between_pages() {
    let mut scene = Scene::new(limits());
    for n in 0..60 {
        scene.announce(&client(n, n.into()), 1).unwrap();
    }
    let mut turn = 0;
    let all = pages(Position::random([5; 8]), |from| {
        let (gone, come) = (40 + turn % 20, 100 + turn);
        scene.board.forget(ConnectionId(gone.into()));
        scene.announce(&client(come, come.into()), 1).unwrap();
        turn += 1;
        scene.page(1, from, 3)
    });
    let stayed = all.iter().copied().filter(|it| peers(0..40).contains(it));
    assert_eq!(sorted(stayed.collect()), peers(0..40));
}

#[test]
fn the_pages_of_several_nodes_are_those_of_one() {
    let mut nodes = [(); 3].map(|()| Scene::new(limits()));
    for n in 0..90 {
        // Most are at one node, and some at two for a while.
        let node = usize::from(n % 7 / 3);
        nodes[node].announce(&client(n, n.into()), 1).unwrap();
        if n % 10 == 0 {
            nodes[2]
                .announce(&client(n, 1000 + u64::from(n)), 1)
                .unwrap();
        }
    }
    for random in 0..20 {
        for most in [1, 5, 40] {
            let mut first = 0;
            let all = pages(Position::random([random; 8]), |from| {
                let pages = nodes.iter().map(|it| it.page(1, from, most));
                let merged = merge(pages.collect(), from, most.into());
                first = first.max(merged.members.len());
                merged
            });
            assert_eq!(first, usize::from(most));
            assert_eq!(sorted(all), peers(0..90), "{random} {most}");
        }
    }
}

#[test]
fn a_slow_watcher_is_told_of_a_gap() {
    let mut scene = Scene::new(limits());
    let watcher = client(999, 9999);
    scene.watch(&watcher, 1).unwrap();
    let many = u16::try_from(MAX_TOPIC_CHANGES).unwrap() + 1;
    for n in 0..many {
        let effect = scene.announce(&client(n, n.into()), 1).unwrap();
        assert_eq!(effect.wake.len(), usize::from(n == 0), "it is awake");
    }
    let told = scene.board.take(watcher.connection).unwrap();
    assert!(told.missed && told.joined.is_empty());
    scene.board.withdraw(&client(0, 0), topic(1));
    let told = scene.board.take(watcher.connection).unwrap();
    assert!(!told.missed);
    assert_eq!(told.left, [peer(0)]);
    // What could not be sent is a gap as well.
    scene.board.lost(watcher.connection, topic(1));
    assert!(scene.board.take(watcher.connection).unwrap().missed);
    assert_eq!(scene.board.take(watcher.connection), None);
}

#[test]
fn watchers_that_take_nothing_leave_room_for_others() {
    let mut scene = Scene::new(BoardLimits {
        burst_per_peer: u32::MAX,
        ..limits()
    });
    let greedy: Vec<_> = (0..100).map(|c| client(1, c)).collect();
    let other = client(2, 1000);
    for watcher in greedy.iter().chain([&other]) {
        scene.watch(watcher, 1).unwrap();
    }
    for n in 100..300 {
        scene.announce(&client(n, 2000 + u64::from(n)), 1).unwrap();
    }
    let told = scene.board.take(other.connection).unwrap();
    assert_eq!((told.joined.len(), told.missed), (200, false));
    let of_greedy = greedy.iter().map(|it| scene.board.take(it.connection));
    let of_greedy: Vec<_> = of_greedy.map(Option::unwrap).collect();
    let waited: usize = of_greedy.iter().map(|it| it.joined.len()).sum();
    assert!(waited <= MAX_PENDING_PER_NETWORK, "{waited}");
    assert!(of_greedy.iter().any(|it| it.missed));
    assert_eq!(scene.board.used.of_all(Kind::Change), 0);
}

#[test]
fn a_proof_that_changes_is_told() {
    let mut scene = Scene::new(limits());
    let (one, watcher) = (client(1, 1), client(2, 2));
    scene.watch(&watcher, 1).unwrap();
    for proof in [1, 2, 2] {
        scene.announce_with(&one, 1, [proof; 16]).unwrap();
    }
    let told = scene.board.take(watcher.connection).unwrap();
    assert_eq!(told.joined[0].proof, MemberProof([2; 16]));
    assert_eq!(scene.board.len(), (1, 1));
}

#[test]
fn what_changes_at_another_node_is_told_here() {
    let mut scene = Scene::new(limits());
    let (here, watcher) = (client(1, 1), client(2, 2));
    scene.watch(&watcher, 1).unwrap();
    scene.announce(&here, 1).unwrap();
    scene.board.take(watcher.connection).unwrap();
    let elsewhere = Member {
        peer: peer(7),
        proof: MemberProof([1; 16]),
    };
    let effect = scene.board.hear(&joined(topic(1), elsewhere));
    assert_eq!(effect.wake, [watcher.connection]);
    assert!(effect.changes.is_empty(), "it is not told again");
    let told = scene.board.take(watcher.connection).unwrap();
    assert_eq!(told.joined, [elsewhere]);
    // One that has moved here is here, and the others hear of that.
    let left = TopicChanges {
        left: vec![peer(1), peer(7)],
        ..TopicChanges::new(topic(1))
    };
    let effect = scene.board.hear(&left);
    assert_eq!(effect.changes[0].joined[0].peer, peer(1));
    let told = scene.board.take(watcher.connection).unwrap();
    assert_eq!(told.left, [peer(7)]);
    let effect = scene.board.missed_elsewhere();
    assert_eq!(effect.wake, [watcher.connection]);
    assert!(scene.board.take(watcher.connection).unwrap().missed);
    assert_eq!(
        scene.board.hear(&TopicChanges::new(topic(2))),
        Effect::default()
    );
}
