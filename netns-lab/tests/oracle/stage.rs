//! Two hosts behind chains of boxes, a server, and the gift of seeing where a host would appear.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use netns_lab::{
    LinkSpec, NatSpec,
    model::NatModel,
    virtual_time::{HostId, Middlebox, Outgoing, Remark, Side, SocketId, Uplink, World},
};
use netns_lab_rig::packets::{SYN, ends, tcp};

/// One way over an access link: a packet from host to host takes two.
const LINK: Duration = Duration::from_millis(10);

/// What a packet takes from host to host.
pub(crate) const ONE_WAY: Duration = LINK.saturating_mul(2);

const SERVER_PORT: u16 = 80;

/// The time that a question to the server may take, loss excluded.
const ANSWER: Duration = Duration::from_secs(1);

/// A box that the test can look into.
#[derive(Debug, Clone)]
struct Glass(Arc<Mutex<NatModel>>);

impl Middlebox for Glass {
    fn handle(
        &mut self,
        now: Duration,
        side: Side,
        packet: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Remark {
        Middlebox::handle(&mut *self.0.lock().unwrap(), now, side, packet, out)
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.0.lock().unwrap().next_timeout()
    }

    fn handle_timeout(&mut self, now: Duration, out: &mut Vec<Outgoing>) -> Remark {
        Middlebox::handle_timeout(&mut *self.0.lock().unwrap(), now, out)
    }
}

/// A host with what is before it.
struct Place {
    host: HostId,
    address: IpAddr,
    /// The innermost first.
    boxes: Vec<Glass>,
}

/// The world with its two hosts, numbered 0 and 1.
pub(crate) struct Stage {
    pub(crate) world: World,
    places: [Place; 2],
    server: SocketId,
}

impl Stage {
    pub(crate) fn new(chains: [&[NatSpec]; 2], seed: u64) -> Self {
        let mut world = World::new(seed);
        let link = Uplink::core(LinkSpec::delay(LINK));
        let server = world.add_host("server", &[server().ip()], link).unwrap();
        let server = world.listen(server, SERVER_PORT).unwrap();
        let places = [0, 1].map(|number| add_place(&mut world, chains[number], number, seed));
        Self {
            world,
            places,
            server,
        }
    }

    pub(crate) fn host(&self, side: usize) -> HostId {
        self.places[side].host
    }

    /// Returns the host's own endpoint.
    pub(crate) fn local(&self, side: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.places[side].address, port)
    }

    /// Asks the server where the host appears from.
    pub(crate) fn ask(&mut self, side: usize, port: u16) -> SocketAddr {
        let (host, local) = (self.host(side), self.local(side, port));
        self.world.connect(host, local, server()).unwrap();
        let limit = self.world.now() + ANSWER;
        let (mut seen, asked) = (None, self.server);
        self.world.run_until(limit, |world| {
            seen = seen.or_else(|| world.accept(asked));
            seen.is_some()
        });
        seen.unwrap().remote
    }

    /// Returns where the host would appear from if it dialled now.
    pub(crate) fn foresee(&self, side: usize, port: u16, remote: SocketAddr) -> SocketAddr {
        self.send(side, port, remote, |glass, now, syn| {
            let mut nat = glass.0.lock().unwrap().clone();
            leave(&mut nat, now, syn)
        })
    }

    /// Sends a SYN up to the core, and returns where it comes from there.
    pub(crate) fn appear(&mut self, side: usize, port: u16, remote: SocketAddr) -> SocketAddr {
        self.send(side, port, remote, |glass, now, syn| {
            leave(&mut glass.0.lock().unwrap(), now, syn)
        })
    }

    fn send(
        &self,
        side: usize,
        port: u16,
        remote: SocketAddr,
        leave: impl Fn(&Glass, Duration, &[u8]) -> SocketAddr,
    ) -> SocketAddr {
        let mut source = self.local(side, port);
        for glass in &self.places[side].boxes {
            source = leave(glass, self.world.now(), &tcp(source, remote, SYN));
        }
        source
    }
}

/// Returns the source that a SYN leaves a box with.
fn leave(nat: &mut NatModel, now: Duration, syn: &[u8]) -> SocketAddr {
    let verdict = nat.handle_packet(now, Side::Internal, syn);
    assert!(verdict.forwarded(), "{verdict}");
    ends(&nat.poll_output().unwrap().packet).1
}

fn server() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 100], SERVER_PORT))
}

fn add_place(world: &mut World, chain: &[NatSpec], number: usize, seed: u64) -> Place {
    let digit = number as u8;
    let public = IpAddr::from([203, 0, 113, digit + 1]);
    let mut uplink = Uplink::core(LinkSpec::delay(LINK));
    let mut outside = public;
    let mut boxes = Vec::new();
    for (level, spec) in chain.iter().enumerate().rev() {
        let translates = spec.translation != netns_lab::Translation::None;
        let seed = seed * 64 + (number * 8 + level) as u64;
        let external = if translates {
            vec![outside]
        } else {
            Vec::new()
        };
        let nat = NatModel::new(*spec, external.clone(), seed).unwrap();
        let glass = Glass(Arc::new(Mutex::new(nat)));
        let networks: Vec<_> = external.into_iter().map(Into::into).collect();
        let name = format!("box {level} of {number}");
        let id = world.add_middlebox(&name, Box::new(glass.clone()), &networks, uplink);
        uplink = Uplink::behind(id.unwrap());
        boxes.insert(0, glass);
        if translates {
            outside = IpAddr::from([10, digit, level as u8, 2]);
        }
    }
    let host = world.add_host(&format!("host {number}"), &[outside], uplink);
    Place {
        host: host.unwrap(),
        address: outside,
        boxes,
    }
}
