//! The world that a schedule is played in: its hosts and boxes by name, and where each peer has
//! been.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use netns_lab::{
    BurstLoss, Dependence, HostSpec, LinkSpec, NatSpec, PortAssignment, Topology,
    oracle::{Endpoint, Outside},
    preset,
    virtual_time::HostId,
};
use netns_lab_programs::Programs;
use p2pconnect_identity::SecretKey;
use p2pconnect_tests::kinds;

use crate::schedule::{Link, Peer, Schedule, Trouble};

/// The name of the server's host.
pub(crate) const SERVER: &str = "server";

/// The delay of the server's link.
const SERVER_LINK: Duration = Duration::from_millis(1);

/// A port of the server's that nobody listens at.
const CLOSED_PORT: u16 = 9;

/// How far the last number of an address is from that of the one before it, when a peer has moved.
/// Hosts are numbered from 1 to 5.
const ADDRESS_STEP: u8 = 10;

/// A world, and what is known of its places.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) programs: Programs,
    peers: Vec<Place>,
}

/// A peer's place.
#[derive(Debug, Clone)]
struct Place {
    host: HostId,
    boxes: Vec<NatSpec>,
    delay: Duration,
}

/// Returns the name of a peer's host.
pub(crate) fn host_name(peer: usize) -> String {
    format!("p{peer}")
}

/// Returns the key of a peer, or of the server.
pub(crate) fn key(seed: u64, of: Option<usize>) -> SecretKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8] = of.map_or(0, |peer| 1 + peer as u8);
    SecretKey::from_seed(&bytes).expect("any bytes are a key")
}

/// Returns what a peer is behind, the innermost box first.
pub(crate) fn boxes(peer: &Peer) -> Vec<NatSpec> {
    match kinds::ALL.iter().find(|kind| kind.column == peer.nat) {
        Some(kind) => kind.boxes.to_vec(),
        None => preset::find(peer.nat)
            .expect("there is such a preset")
            .specs(),
    }
}

/// Returns the topology of a schedule.
pub(crate) fn topology(schedule: &Schedule) -> Topology {
    let server = HostSpec::new(SERVER).link(LinkSpec::delay(SERVER_LINK));
    let behind = |(number, peer): (usize, &Peer)| {
        let link = LinkSpec::delay(Duration::from_millis(peer.delay_ms));
        let host = HostSpec::new(host_name(number)).link(link);
        boxes(peer).into_iter().fold(host, HostSpec::behind)
    };
    let peers = schedule.peers.iter().enumerate().map(behind);
    peers.fold(Topology::new().host(server), Topology::host)
}

impl Ground {
    pub(crate) fn new(schedule: &Schedule, programs: Programs) -> Self {
        let place = |(number, peer): (usize, &Peer)| Place {
            host: programs
                .with(|world| world.find_host(&host_name(number)))
                .expect("the topology has it"),
            boxes: boxes(peer),
            delay: Duration::from_millis(peer.delay_ms),
        };
        let peers = schedule.peers.iter().enumerate().map(place).collect();
        Self { programs, peers }
    }

    /// Returns what a peer is behind, the innermost box first.
    pub(crate) fn boxes(&self, peer: usize) -> &[NatSpec] {
        &self.peers[peer].boxes
    }

    /// Returns the delay of a peer's access link.
    pub(crate) fn delay(&self, peer: usize) -> Duration {
        self.peers[peer].delay
    }

    /// Returns whether a box of a peer takes one port after the other.
    pub(crate) fn counts_ports(&self, peer: usize) -> bool {
        let outside = Outside::of(self.boxes(peer));
        matches!(outside.endpoint, Endpoint::Sequential(_))
    }

    /// Returns whether each destination sees a peer's port as the server does.
    pub(crate) fn is_seen_alike(&self, peer: usize) -> bool {
        Outside::of(self.boxes(peer)).endpoint == Endpoint::Reflected
    }

    /// Returns how long a dial takes by its round trips alone: to the coordinator, and between the
    /// two.
    pub(crate) fn time_to_connect(&self, from: usize, to: usize) -> Duration {
        let [own, other] = [from, to].map(|peer| self.delay(peer));
        own + own.max(other) + (SERVER_LINK + own + other) * 2
    }

    /// Returns a round trip between a peer and the server.
    pub(crate) fn round_trip(&self, peer: usize) -> Duration {
        (SERVER_LINK + self.delay(peer)) * 2
    }

    /// Has another program on a peer's host begin so many connections, which a NAT gives ports of
    /// their own.
    pub(crate) fn take_ports(&self, peer: usize, count: u32) {
        let server = SocketAddr::new(self.server_ip(), CLOSED_PORT);
        let host = self.host(peer);
        self.programs.with(|world| {
            let own = world.addresses(host).iter().find(|it| it.is_ipv4());
            let own = *own.expect("it has not moved away");
            for _ in 0..count {
                let port = world.free_tcp_port(host).expect("there are many");
                let socket = world.connect(host, (own, port).into(), server);
                let aborted = world.abort(socket.expect("the port is free"));
                aborted.expect("it is there");
            }
        });
    }

    pub(crate) fn peers(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn server(&self) -> HostId {
        let server = self.programs.with(|world| world.find_host(SERVER));
        server.expect("the topology has it")
    }

    pub(crate) fn host(&self, peer: usize) -> HostId {
        self.peers[peer].host
    }

    /// Returns the IPv4 address of the server.
    pub(crate) fn server_ip(&self) -> IpAddr {
        let server = self.server();
        self.programs.with(|world| world.addresses(server)[0])
    }

    /// Returns the name of the place below a link.
    pub(crate) fn below(&self, link: Link) -> String {
        match link {
            Link::Server => SERVER.to_owned(),
            Link::Access(peer) => self.box_name(peer, self.peers[peer].boxes.len()),
            Link::Inside(peer) => host_name(peer),
        }
    }

    /// Returns the name of a peer's box, counted from 1 at the innermost one; 0 is the host.
    fn box_name(&self, peer: usize, number: usize) -> String {
        let host = host_name(peer);
        match number {
            0 => host,
            1 => format!("{host}.nat"),
            _ => format!("{host}.nat{number}"),
        }
    }

    /// Returns the names of all boxes that keep ports, if these are free, for all destinations.
    pub(crate) fn port_keeping_boxes(&self) -> BTreeSet<String> {
        let keeps = |spec: &NatSpec| {
            let is_same = spec.mapping == Dependence::EndpointIndependent;
            spec.ports == PortAssignment::PreservedWithOverload
                || spec.ports == PortAssignment::Preserved && is_same
        };
        let of_peer = |(peer, place): (usize, &Place)| {
            let boxes = place.boxes.iter().zip(1..);
            let keeping = boxes.filter(|(spec, _)| keeps(spec));
            let named = keeping.map(|(_, number)| self.box_name(peer, number));
            named.collect::<Vec<_>>()
        };
        self.peers.iter().enumerate().flat_map(of_peer).collect()
    }

    /// Has a link do something to what it carries, or nothing any more.
    pub(crate) fn set_trouble(&self, link: Link, trouble: Option<Trouble>) {
        let delay = match link {
            Link::Server => SERVER_LINK,
            Link::Access(peer) => self.peers[peer].delay,
            Link::Inside(peer) if self.peers[peer].boxes.is_empty() => self.peers[peer].delay,
            Link::Inside(_) => Duration::ZERO,
        };
        let spec = troubled(LinkSpec::delay(delay), trouble);
        let below = self.below(link);
        let set = self.programs.with(|world| world.set_link(&below, spec));
        set.expect("there is such a link");
    }

    pub(crate) fn set_up(&self, link: Link, is_up: bool) {
        let below = self.below(link);
        let is_there = self.programs.with(|world| world.set_link_up(&below, is_up));
        assert!(is_there, "there is no {below}");
    }

    /// Takes the IPv4 address from a peer's host, and returns the next one.
    pub(crate) fn take_address(&self, peer: usize) -> IpAddr {
        let host = self.host(peer);
        self.programs.with(|world| {
            let v4 = world.addresses(host).iter().find(|it| it.is_ipv4());
            let v4 = *v4.expect("moves do not overlap");
            let taken = world.remove_address(host, v4);
            taken.expect("the host is of this world");
            next(v4)
        })
    }

    pub(crate) fn give_address(&self, peer: usize, address: IpAddr) {
        let host = self.host(peer);
        let given = self.programs.with(|world| world.add_address(host, address));
        given.expect("nobody else has it");
    }

    /// Has a NAT of a peer forget everything, and come back with other addresses if it is to and
    /// has any. Nothing happens if there is no such box.
    pub(crate) fn reboot(&self, peer: usize, is_outermost: bool, moves: bool) {
        let layers = self.peers[peer].boxes.len();
        let number = if is_outermost {
            layers
        } else {
            layers.saturating_sub(1)
        };
        if number == 0 {
            return;
        }
        let name = self.box_name(peer, number);
        self.programs.with(|world| {
            let external = world.external_addresses(&name);
            let moved: Vec<_> = external.into_iter().map(next).collect();
            let external = (moves && !moved.is_empty()).then_some(&*moved);
            world.reboot(&name, external).expect("nobody else has them");
        });
    }

    /// Returns all addresses by which a peer is reached from elsewhere at present.
    pub(crate) fn addresses(&self, peer: usize) -> Vec<IpAddr> {
        let place = &self.peers[peer];
        self.programs.with(|world| {
            let own = world.addresses(place.host).to_vec();
            let boxes = (1..=place.boxes.len()).map(|number| self.box_name(peer, number));
            let external = boxes.flat_map(|name| world.external_addresses(&name));
            own.into_iter().chain(external).collect()
        })
    }
}

/// Returns the address that follows one.
fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Ipv4Addr::new(a, b, c, d.wrapping_add(ADDRESS_STEP)).into()
        }
        // One of many, so that the network stays the same.
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() + u128::from(ADDRESS_STEP)).into()),
    }
}

fn troubled(link: LinkSpec, trouble: Option<Trouble>) -> LinkSpec {
    let share = |percent: u8| f64::from(percent) / 100.0;
    match trouble {
        None => link,
        Some(Trouble::Loss(percent)) => link.loss(share(percent)),
        Some(Trouble::Bursts(packets)) => link.burst_loss(BurstLoss {
            enter: 0.02,
            leave: 1.0 / f64::from(packets),
            loss: 1.0,
        }),
        Some(Trouble::Jitter(ms)) => link.jitter(Duration::from_millis(ms)),
        Some(Trouble::Reordering(ms)) => link.jitter(Duration::from_millis(ms)).reordering(),
        Some(Trouble::Duplicates(percent)) => link.duplicating(share(percent)),
    }
}
