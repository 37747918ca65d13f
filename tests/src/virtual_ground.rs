//! The product itself in virtual time: coordinator, STUN servers and endpoints on the hosts of the lab's world.

use std::{
    future::{Future, pending},
    net::SocketAddr,
    time::Duration,
};

use netns_lab::{HostSpec, LinkSpec, NatSpec, Topology, virtual_time::World};
use netns_lab_programs::{Programs, virtual_runtime};
use p2pconnect::{Builder, CoordinatorAddr, Endpoint};
use p2pconnect_coordinator::RendezvousPorts;
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::TokenKey;
use p2pconnect_stun::{DEFAULT_PORT, StunServerConfig};

/// The port of the coordinator.
pub const COORDINATOR_PORT: u16 = 4433;

/// The delays of the access links, one way: 80 ms between the peers and 42 ms to the server, there and back.
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
    /// Runs a body beside the server, in the virtual time of a world that a seed decides, and returns what it returns.
    ///
    /// # Panics
    ///
    /// If the world cannot be built, or the server cannot be started.
    pub fn run<T, F: Future<Output = T>>(
        seed: u64,
        boxes: [&[NatSpec]; 2],
        body: impl FnOnce(Self) -> F,
    ) -> T {
        virtual_runtime(seed).block_on(async {
            let world = World::build(&topology(boxes), seed).expect("the world is well-formed");
            let programs = Programs::new(world, seed);
            let going_on = programs.clone();
            let world = tokio::spawn(async move { going_on.run().await });
            let ground = Self::serve(programs, seed);
            let result = body(ground).await;
            world.abort();
            result
        })
    }

    fn serve(programs: Programs, seed: u64) -> Self {
        let ip = programs.with(|world| {
            let server = world.find_host("server").expect("there is a server");
            world.addresses(server)[0]
        });
        let mut config = StunServerConfig::default();
        config.host = programs.host("server", 0);
        let (listen, stun) = (
            (ip, COORDINATOR_PORT).into(),
            SocketAddr::new(ip, DEFAULT_PORT),
        );
        let token_key = TokenKey::from_bytes([7; 32]);
        let ports = RendezvousPorts::bind(listen, &[stun], config, token_key);
        let ports = ports.expect("the ports are free");
        let config = ports.config(key(seed, "server"));
        let rendezvous = ports.coordinate(config).expect("the configuration is good");
        let coordinator = CoordinatorAddr {
            id: rendezvous.coordinator.server_id(),
            host: ip.to_string(),
            port: COORDINATOR_PORT,
        };
        tokio::spawn(rendezvous.run(pending()));
        Self {
            programs,
            coordinator,
            seed,
        }
    }

    /// Returns an endpoint to be on a host.
    pub fn endpoint(&self, host: &str) -> Builder {
        Endpoint::builder()
            .host(self.programs.host(host, 1))
            .coordinator(self.coordinator.clone())
            .secret_key(key(self.seed, host))
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
    let behind = |name: &str, boxes: &[NatSpec]| {
        let host = HostSpec::new(name).link(LinkSpec::delay(PEER_LINK));
        boxes.iter().fold(host, |host, nat| host.behind(*nat))
    };
    Topology::new()
        .host(HostSpec::new("server").link(LinkSpec::delay(SERVER_LINK)))
        .host(behind("a", a))
        .host(behind("b", b))
}
