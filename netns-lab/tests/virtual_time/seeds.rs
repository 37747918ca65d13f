//! The same seed makes the same log, byte for byte.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    time::Duration,
};

use netns_lab::{
    LinkSpec,
    virtual_time::{HostId, SocketId, SocketState, Uplink, World},
};

use crate::{
    boxes::{Answer, Firewall},
    stage::MS,
};

/// Seeds that are compared, as issue and README promise.
const SEEDS: u64 = 1000;

/// One side of a punch: dials, and dials again some time after a failure.
struct Puncher {
    host: HostId,
    local: SocketAddr,
    remote: SocketAddr,
    socket: Option<SocketId>,
    dial_at: Duration,
    failures: u32,
}

impl Puncher {
    fn act(&mut self, world: &mut World) -> bool {
        let Some(socket) = self.socket else {
            if world.now() >= self.dial_at {
                let dialled = world.connect(self.host, self.local, self.remote);
                self.socket = Some(dialled.unwrap());
            }
            return false;
        };
        match world.state(socket).unwrap() {
            SocketState::Connected => return true,
            SocketState::Failed(_) | SocketState::Closed => {
                world.abort(socket).unwrap();
                self.socket = None;
                self.failures += 1;
                // Not the same on both sides, or they would fail in step.
                let wait = 1 + (u32::from(self.local.port()) * self.failures) % 37;
                self.dial_at = world.now() + wait * MS;
            }
            SocketState::Connecting => {}
        }
        false
    }
}

/// Two hosts behind firewalls of their own dial each other.
fn punch(seed: u64, link: LinkSpec, answer: Answer) -> (World, bool) {
    let mut world = World::new(seed);
    let ends: [SocketAddr; 2] =
        ["203.0.113.1:4000", "203.0.113.2:5001"].map(|end| end.parse().unwrap());
    let mut sides = [("a", 0), ("b", 1)].map(|(name, n)| {
        let firewall = Firewall::new(answer);
        let uplink = Uplink::core(link);
        let firewall = world
            .add_middlebox(&format!("firewall of {name}"), firewall, &[], uplink)
            .unwrap();
        let host = world.add_host(name, &[ends[n].ip()], Uplink::behind(firewall));
        Puncher {
            host: host.unwrap(),
            local: ends[n],
            remote: ends[1 - n],
            socket: None,
            dial_at: 7 * MS * n as u32,
            failures: 0,
        }
    });
    let limit = Duration::from_secs(5);
    while world.now() < limit {
        if sides.each_mut().map(|side| side.act(&mut world)) == [true, true] {
            return (world, true);
        }
        let waiting = sides.iter().filter(|side| side.socket.is_none());
        let next = waiting.map(|side| side.dial_at).min();
        world.step(next.unwrap_or(limit));
    }
    (world, false)
}

fn digest(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.log().to_string().hash(&mut hasher);
    world.log().hash(&mut hasher);
    hasher.finish()
}

fn rough() -> LinkSpec {
    LinkSpec::delay(20 * MS)
        .jitter(10 * MS)
        .reordering()
        .loss(0.05)
}

#[test]
fn the_same_seed_makes_the_same_log() {
    let mut digests = BTreeSet::new();
    for seed in 0..SEEDS {
        let answer = [Answer::Drop, Answer::Rst, Answer::Icmp(13)][(seed % 3) as usize];
        let (first, _) = punch(seed, rough(), answer);
        let (second, _) = punch(seed, rough(), answer);
        let same = first.log().to_string() == second.log().to_string();
        assert!(
            same && first.log() == second.log(),
            "seed {seed}:\n{}",
            first.log()
        );
        digests.insert(digest(&first));
    }
    assert_eq!(digests.len() as u64, SEEDS, "seeds that make no difference");
}

#[test]
fn a_punch_goes_through_whatever_the_answer() {
    for answer in [Answer::Drop, Answer::Rst, Answer::Icmp(13)] {
        for seed in 0..20 {
            let link = LinkSpec::delay(20 * MS).jitter(3 * MS);
            let (world, through) = punch(seed, link, answer);
            assert!(through, "{answer:?}, seed {seed}:\n{}", world.log());
        }
    }
}
