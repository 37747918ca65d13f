//! Random sequences of what happens to a board, against the plainest possible model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const PEERS: u16 = 5;
const TOPICS: u8 = 3;

#[derive(Debug, Clone, Copy)]
enum What {
    Announce,
    Withdraw,
    Watch,
    Unwatch,
    Disconnect,
    /// The client takes what it is told.
    Take,
}

/// What the peer `n` does on its connection `c`, about a topic.
#[derive(Debug, Clone, Copy)]
struct Step {
    n: u16,
    c: u64,
    topic: u8,
    what: What,
}

fn step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        3 => Just(What::Announce),
        2 => Just(What::Withdraw),
        2 => Just(What::Watch),
        1 => Just(What::Unwatch),
        1 => Just(What::Disconnect),
        4 => Just(What::Take),
    ];
    (0..PEERS, 0..2_u64, 0..TOPICS, what).prop_map(|(n, c, topic, what)| Step { n, c, topic, what })
}

#[derive(Debug, Default)]
struct Model {
    /// Which connection has announced which topic.
    announced: BTreeSet<(u16, u64, u8)>,
    /// What each watcher believes, by the connection and the topic.
    believed: BTreeMap<(u16, u64, u8), BTreeSet<PeerId>>,
}

/// A connection's number says whose it is.
fn client_of(n: u16, c: u64) -> Client {
    client(n, u64::from(n) * 10 + c)
}

impl Model {
    fn members(&self, topic: u8) -> BTreeSet<PeerId> {
        let of_topic = self.announced.iter().filter(|it| it.2 == topic);
        of_topic.map(|it| peer(it.0)).collect()
    }

    fn take(&mut self, scene: &mut Scene, n: u16, c: u64) {
        while let Some(told) = scene.board.take(client_of(n, c).connection) {
            let number = (0..TOPICS).find(|it| topic(*it) == told.topic).unwrap();
            let believed = self.believed.get_mut(&(n, c, number)).unwrap();
            assert!(!told.missed, "there are few");
            believed.extend(told.joined.iter().map(|it| it.peer));
            believed.retain(|it| !told.left.contains(it));
        }
    }

    fn play(&mut self, scene: &mut Scene, step: Step) {
        let Step {
            n,
            c,
            topic: number,
            what,
        } = step;
        let (client, key) = (client_of(n, c), (n, c, number));
        match what {
            What::Announce => {
                scene.announce(&client, number).unwrap();
                self.announced.insert(key);
            }
            What::Withdraw => {
                scene.board.withdraw(&client, topic(number));
                self.announced.remove(&key);
            }
            What::Watch => {
                scene.watch(&client, number).unwrap();
                let members = scene.all(number, 1, 2).into_iter().collect();
                self.believed.entry(key).or_insert(members);
            }
            What::Unwatch => {
                scene.board.unwatch(&client, topic(number));
                self.believed.remove(&key);
            }
            What::Disconnect => {
                scene.board.forget(client.connection);
                self.announced.retain(|it| (it.0, it.1) != (n, c));
                self.believed.retain(|it, _| (it.0, it.1) != (n, c));
            }
            What::Take => self.take(scene, n, c),
        }
        for number in 0..TOPICS {
            let found = scene.all(number, 1, 2);
            let members = self.members(number);
            assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), members);
            assert_eq!(found.len(), members.len());
        }
        let counts = (self.announced.len(), self.believed.len());
        assert_eq!(scene.board.len(), counts);
    }
}

proptest! {
    #[test]
    fn watchers_come_to_believe_what_is_so(steps in prop::collection::vec(step(), 1..120)) {
        let mut scene = Scene::new(limits());
        let mut model = Model::default();
        for step in steps {
            model.play(&mut scene, step);
        }
        for n in 0..PEERS {
            for c in 0..2 {
                model.take(&mut scene, n, c);
            }
        }
        for ((_, _, number), believed) in &model.believed {
            assert_eq!(*believed, model.members(*number));
        }
        for n in 0..PEERS {
            for c in 0..2 {
                scene.board.forget(client_of(n, c).connection);
            }
        }
        prop_assert_eq!(scene.board.len(), (0, 0));
        prop_assert!((0..TOPICS).all(|it| !scene.board.knows(&topic(it))));
        prop_assert!(scene.board.connections.is_empty());
        prop_assert_eq!(scene.board.used.of_all(Kind::Change), 0);
    }
}
