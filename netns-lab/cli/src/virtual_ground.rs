//! The product itself in virtual time: coordinator, STUN servers and endpoints on the hosts of the
//! lab's world.

use std::{
    future::{Future, pending},
    time::Duration,
};

use netns_lab::{HostSpec, LinkSpec, NatSpec, Topology, virtual_time::World};
use netns_lab_programs::{Programs, virtual_runtime};
use p2pconnect::{Builder, CoordinatorAddr, Endpoint, SecretKey};

use crate::serving::rendezvous;

/// The delays of the access links, one way: 80 ms between the peers and 42 ms to the server, there
/// and back.
const PEER_LINK: Duration = Duration::from_millis(20);
const SERVER_LINK: Duration = Duration::from_millis(1);

/// A world with a server, which serves, and two peers, `a` and `b`.
#[derive(Debug)]
pub struct VirtualGround {
    /// The programs of the world.
    pub programs: Programs,
    /// Where peers find the coordinator.
    pub coordinator: CoordinatorAddr,
    seed: u64,
}

impl VirtualGround {
    /// Runs a body beside the server, in the virtual time of a world that a seed decides, and
    /// returns what it returns.
    ///
    /// # Panics
    ///
    /// If the world cannot be built, or the server cannot be started.
    pub fn run<T, F: Future<Output = T>>(
        seed: u64,
        boxes: [&[NatSpec]; 2],
        body: impl FnOnce(Self) -> F,
    ) -> T {
        let world = World::build(&topology(boxes), seed).expect("the world is well-formed");
        Self::run_in(world, "server", seed, body)
    }

    /// Runs a body beside the server, which is on the host of a name, in the virtual time of this
    /// world.
    ///
    /// # Panics
    ///
    /// If there is no such host, or the server cannot be started.
    pub fn run_in<T, F: Future<Output = T>>(
        world: World,
        server: &str,
        seed: u64,
        body: impl FnOnce(Self) -> F,
    ) -> T {
        virtual_runtime(seed).block_on(async {
            let programs = Programs::new(world, seed);
            let going_on = programs.clone();
            let world = tokio::spawn(async move { going_on.run().await });
            let serving = rendezvous(programs.host(server, 0), key(seed, server));
            let (rendezvous, coordinator) = serving.expect("the server can be started");
            tokio::spawn(rendezvous.run(pending()));
            let ground = Self {
                programs,
                coordinator,
                seed,
            };
            let result = body(ground).await;
            world.abort();
            result
        })
    }

    /// Returns an endpoint to be on a host.
    pub fn endpoint(&self, host: &str) -> Builder {
        Endpoint::builder()
            .host(self.programs.host(host, 1))
            .coordinator(self.coordinator.clone())
            .secret_key(self.key(host))
    }

    /// Returns the key of the endpoint on a host.
    pub fn key(&self, host: &str) -> SecretKey {
        key(self.seed, host)
    }
}

/// Returns the key of a host's program.
fn key(seed: u64, host: &str) -> SecretKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    for (at, byte) in host.bytes().enumerate() {
        bytes[8 + at % 24] ^= byte;
    }
    SecretKey::from_seed(&bytes).expect("any bytes are a key")
}

fn topology([a, b]: [&[NatSpec]; 2]) -> Topology {
    let peer = |name, boxes| {
        let host = HostSpec::new(name).link(LinkSpec::delay(PEER_LINK));
        host.behind_all(boxes)
    };
    Topology::new()
        .host(HostSpec::new("server").link(LinkSpec::delay(SERVER_LINK)))
        .host(peer("a", a))
        .host(peer("b", b))
}
