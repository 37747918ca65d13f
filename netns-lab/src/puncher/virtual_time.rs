//! Punches in virtual time.

#[cfg(test)]
mod tests;
mod trial;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use p2pconnect_proto::Role;
use p2pconnect_punch::{ConnectFailure, Event, Opened};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::gather::{Gathered, Gathering};
use super::server::{self, Server};
use super::session::Session;
use super::sockets::{Progress, Received, Sockets};
use super::{
    Ends, GATHER_LIMIT, Lots, PUNCH_LIMIT, Path, PunchOutcome, SideEnd, start_after, start_session,
};
use crate::NatSpec;
use crate::model::{NatModel, SpecError, Translation};
use crate::virtual_time::{
    EventLog, Failure, HostId, Opening, SocketError, SocketId, SocketState, Uplink, World,
    WorldError,
};

pub use trial::{SideOutcome, Trial, TrialError, TrialOutcome, trial};

const SERVERS: [Ipv4Addr; 2] = [
    Ipv4Addr::new(203, 0, 113, 100),
    Ipv4Addr::new(203, 0, 113, 101),
];

/// The ephemeral ports of Linux, where the kernel would choose punch ports.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// Why there is no world to punch in.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VirtualTimeError {
    /// The world cannot be built as described.
    #[error(transparent)]
    World(#[from] WorldError),
    /// A box cannot be built as described.
    #[error("a box cannot be built: {0}")]
    Box(#[from] SpecError),
    /// The world's hosts do not do what fresh hosts do; a defect of the lab.
    #[error("a fresh host refused to listen: {0}")]
    Host(#[from] SocketError),
}

/// Lets the dialler, behind the first chain, punch to the listener behind the
/// second one; chains begin with the innermost box.
///
/// The same arguments have the same outcome, to the nanosecond.
///
/// # Errors
///
/// [`VirtualTimeError`] if a chain or a link cannot be built as described.
pub fn virtual_time(
    chains: [&[NatSpec]; 2],
    path: Path,
    seed: u64,
) -> Result<PunchOutcome, VirtualTimeError> {
    let mut run = Run::build(&Trial::new(chains, path, seed))?;
    run.world.stop_log();
    Ok(run.punch())
}

/// Punches as [`virtual_time`] does, and returns what each packet met with too.
///
/// The hosts are called `dialler`, `listener` and `server`, the boxes
/// `dialler nat 1` and so on from the innermost.
///
/// # Errors
///
/// [`VirtualTimeError`] if a chain or a link cannot be built as described.
pub fn virtual_time_with_log(
    chains: [&[NatSpec]; 2],
    path: Path,
    seed: u64,
) -> Result<(PunchOutcome, EventLog), VirtualTimeError> {
    let trial = Trial::new(chains, path, seed);
    let mut run = Run::build(&trial)?;
    let outcome = run.punch();
    Ok((outcome, run.world.log().clone()))
}

/// Lets a dialler punch to a listener in a world with other things in it, which
/// happen meanwhile; the third host is the server, with one address.
///
/// # Errors
///
/// [`VirtualTimeError`] if somebody listens on the server's ports.
pub fn in_world(
    mut world: World,
    [dialler, listener, server]: [HostId; 3],
    seed: u64,
) -> Result<(PunchOutcome, EventLog), VirtualTimeError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for port in server::PORTS {
        world.listen(server, port)?;
    }
    let at = |world: &World, host| {
        let mut addresses = world.addresses(host).iter().copied();
        let first = addresses.find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        first.unwrap_or(Ipv4Addr::UNSPECIFIED)
    };
    let servers = [at(&world, server).into()];
    let mut peer = |host| {
        let address = at(&world, host);
        Run::settle(&mut world, &mut random, host, address, &servers)
    };
    let peers = [peer(dialler)?, peer(listener)?];
    let mut run = Run {
        epoch: Instant::now(),
        serving: [server; 2],
        server: Server::new(servers.to_vec()),
        peers,
        lots: Lots::draw(random.random()),
        world,
    };
    let outcome = run.punch();
    Ok((outcome, run.world.log().clone()))
}

/// Two peers and a server in a world.
struct Run {
    world: World,
    /// The world's beginning as the agents, whose clock it is, see it.
    epoch: Instant,
    /// The hosts with the server's addresses.
    serving: [HostId; 2],
    server: Server<SocketId>,
    peers: [Peer; 2],
    lots: Lots,
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    host: HostId,
    ends: Ends,
}

/// One side's agent, from its start on.
struct SideRun {
    start: Duration,
    session: Option<Session<SocketId>>,
    end: Option<SideEnd>,
    /// Whether the agent has come to an end twice.
    again: bool,
}

/// The sockets of a host, or of two that are the addresses of one server.
struct HostSockets<'a> {
    world: &'a mut World,
    hosts: [HostId; 2],
}

impl SideRun {
    const fn new(start: Duration) -> Self {
        Self {
            start,
            session: None,
            end: None,
            again: false,
        }
    }

    /// Returns when the side has found that there is no way.
    fn gave_up(&self) -> Option<Duration> {
        let end = self.end.as_ref()?;
        matches!(end.event, Event::Failed(_)).then_some(end.at)
    }
}

impl Run {
    fn build(trial: &Trial<'_>) -> Result<Self, VirtualTimeError> {
        let mut random = ChaCha8Rng::seed_from_u64(trial.seed);
        let mut world = World::new(random.random());
        let mut serve = |name, address: Ipv4Addr| {
            let host = world.add_host(name, &[address.into()], Uplink::core(trial.server))?;
            for port in server::PORTS {
                world.listen(host, port)?;
            }
            Ok::<_, VirtualTimeError>(host)
        };
        let serving = [serve("server", SERVERS[0])?, serve("server 2", SERVERS[1])?];
        let mut peer = |number| Self::peer(&mut world, &mut random, number, trial);
        let peers = [peer(1)?, peer(2)?];
        Ok(Self {
            world,
            epoch: Instant::now(),
            serving,
            server: Server::new(SERVERS.map(IpAddr::V4).to_vec()),
            peers,
            lots: Lots::draw(random.random()),
        })
    }

    /// Adds a peer behind its chain, from the core inwards.
    fn peer(
        world: &mut World,
        random: &mut ChaCha8Rng,
        number: u8,
        trial: &Trial<'_>,
    ) -> Result<Peer, VirtualTimeError> {
        let side = usize::from(number - 1);
        let (name, chain) = (["dialler", "listener"][side], trial.chains[side]);
        let mut address = Ipv4Addr::new(203, 0, 113, number);
        let mut uplink = Uplink::core(trial.access[side]);
        for (layer, spec) in chain.iter().enumerate().rev() {
            let external: Vec<IpAddr> = match spec.translation {
                Translation::Nat44 => vec![address.into()],
                Translation::None => Vec::new(),
            };
            let outside: Vec<_> = external.iter().map(|&it| it.into()).collect();
            if !external.is_empty() {
                address = private(number, layer);
            }
            let model = NatModel::new(*spec, external, random.random())?;
            let name = format!("{name} nat {}", layer + 1);
            let id = world.add_middlebox(&name, Box::new(model), &outside, uplink)?;
            uplink = Uplink::behind(id);
            if layer == 0 {
                uplink = uplink.link(trial.inside[side]);
            }
        }
        let host = world.add_host(name, &[address.into()], uplink)?;
        Self::settle(world, random, host, address, &SERVERS.map(IpAddr::V4))
    }

    /// Lets a peer listen where it will punch from.
    fn settle(
        world: &mut World,
        random: &mut ChaCha8Rng,
        host: HostId,
        address: Ipv4Addr,
        servers: &[IpAddr],
    ) -> Result<Peer, VirtualTimeError> {
        let primary = random.random_range(EPHEMERAL);
        let spare = loop {
            let port = random.random_range(EPHEMERAL);
            if port != primary {
                break port;
            }
        };
        for port in [primary, spare] {
            world.listen(host, port)?;
        }
        let punch_ports = [primary, spare].map(|port| (address, port).into());
        let ends = Ends::new(punch_ports, servers, random);
        Ok(Peer { host, ends })
    }

    fn punch(&mut self) -> PunchOutcome {
        let gathered = match self.gather(GATHER_LIMIT) {
            Ok(gathered) => gathered,
            Err(why) => return PunchOutcome::failed(why),
        };
        let dialled = self.world.now();
        let runs = self.run_sessions(&gathered, dialled, [Duration::ZERO; 2]);
        match runs.map(|run| run.end) {
            [Some(dialler), Some(listener)] => PunchOutcome::of_ends(&dialler, &listener, dialled),
            _ => PunchOutcome::failed("An agent came to no end in a minute."),
        }
    }

    fn now(&self) -> Instant {
        self.epoch + self.world.now()
    }

    fn gather(&mut self, limit: Duration) -> Result<[Gathered; 2], String> {
        let now = self.now();
        let mut gatherings = Vec::new();
        for (index, peer) in self.peers.into_iter().enumerate() {
            let gathering = Gathering::begin(peer.ends, limit, &mut self.sockets(index), now);
            gatherings.push((gathering.map_err(|error| error.to_string())?, None));
        }
        let limit = self.world.now() + limit;
        loop {
            let now = self.now();
            let mut sockets = HostSockets {
                world: &mut self.world,
                hosts: self.serving,
            };
            self.server.poll(&mut sockets, now);
            for (index, (gathering, gathered)) in gatherings.iter_mut().enumerate() {
                if gathered.is_none()
                    && let Some(result) = gathering.poll(&mut self.sockets(index), now)
                {
                    *gathered = Some(result.map_err(|error| error.to_string())?);
                }
            }
            if let [(_, Some(dialler)), (_, Some(listener))] = gatherings.as_slice() {
                return Ok([dialler.clone(), listener.clone()]);
            }
            let due = self.server.next_timeout();
            let due = due.map(|at| at.saturating_duration_since(self.epoch));
            self.world.step(due.map_or(limit, |at| at.min(limit)));
        }
    }

    /// Runs both agents until each has come to its end, or nobody waits for
    /// that any more; `late` is what each starts after its moment.
    fn run_sessions(
        &mut self,
        gathered: &[Gathered; 2],
        dialled: Duration,
        late: [Duration; 2],
    ) -> [SideRun; 2] {
        let starts = start_after(gathered[0].rtt, gathered[1].rtt);
        let mut runs = [0, 1].map(|side| SideRun::new(dialled + starts[side] + late[side]));
        let limit = runs[0].start.max(runs[1].start) + PUNCH_LIMIT;
        let passing_on = (gathered[0].rtt + gathered[1].rtt) / 2;
        loop {
            let mut wake = limit;
            let farewell = runs[0].gave_up().map(|at| at + passing_on);
            for side in [0, 1] {
                let run = &mut runs[side];
                let now = self.world.now();
                if now < run.start {
                    wake = wake.min(run.start);
                    continue;
                }
                if run.end.is_some() {
                    continue;
                }
                let instant = self.now();
                let session = run.session.get_or_insert_with(|| {
                    let role = [Role::Controlling, Role::Controlled][side];
                    let (own, other) = (&gathered[side], &gathered[1 - side]);
                    start_session(own, other, role, &self.lots, instant)
                });
                if side == 1 && farewell.is_some_and(|at| at <= now) {
                    session.give_up(instant);
                }
                if let Some(event) = session.poll(&mut self.sockets(side), instant) {
                    run.end = Some(SideEnd { event, at: now });
                }
                if let Some(at) = session.next_timeout() {
                    wake = wake.min(at.saturating_duration_since(self.epoch));
                }
            }
            wake = farewell.map_or(wake, |at| wake.min(at));
            let ended = runs.iter().all(|run| run.end.is_some());
            if ended || self.world.now() >= limit {
                return runs;
            }
            self.world.step(wake);
        }
    }

    const fn sockets(&mut self, side: usize) -> HostSockets<'_> {
        HostSockets {
            world: &mut self.world,
            hosts: [self.peers[side].host; 2],
        }
    }
}

impl Sockets for HostSockets<'_> {
    type Socket = SocketId;

    fn connect(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<SocketId, ConnectFailure> {
        let [first, second] = self.hosts;
        let here = self.world.addresses(first).contains(&local.ip());
        let host = if here { first } else { second };
        let socket = self.world.connect(host, local, remote);
        socket.map_err(|error| match error {
            SocketError::AddressNotAvailable => ConnectFailure::AddressNotAvailable,
            SocketError::AddressInUse => ConnectFailure::AddressInUse,
            SocketError::Failed(failure) => classify(failure),
            _ => ConnectFailure::Other,
        })
    }

    fn progress(&mut self, socket: SocketId) -> Progress {
        // A connection that was open and has failed since is found to be
        // broken when it is used, as with a kernel.
        if let Ok(Some((opening, _))) = self.world.opened(socket) {
            return Progress::Open(match opening {
                Opening::Simultaneous => Opened::Simultaneously,
                Opening::Active | Opening::Passive => Opened::Actively,
            });
        }
        match self.world.state(socket) {
            Ok(SocketState::Connecting) => Progress::Connecting,
            Ok(SocketState::Failed(failure)) => Progress::Failed(classify(failure)),
            Ok(SocketState::Connected | SocketState::Closed) | Err(_) => {
                Progress::Failed(ConnectFailure::Other)
            }
        }
    }

    fn listen(&mut self, local: SocketAddr) {
        // Then what comes there is refused, as on any host without a listener.
        let _done = self.world.listen(self.hosts[0], local.port());
    }

    fn take_changed(&mut self) -> Vec<SocketId> {
        self.world.take_changed_of(self.hosts[0])
    }

    fn accept(&mut self) -> Option<(SocketId, SocketAddr, SocketAddr)> {
        let [first, second] = self.hosts;
        let accepted = self.world.accept_any(first);
        let accepted = accepted.or_else(|| self.world.accept_any(second))?;
        Some((accepted.socket, accepted.local, accepted.remote))
    }

    fn send(&mut self, socket: SocketId, bytes: &[u8]) -> bool {
        self.world.send(socket, bytes) == Ok(bytes.len())
    }

    fn receive(&mut self, socket: SocketId, buffer: &mut [u8]) -> Received {
        match self.world.recv(socket, buffer) {
            Ok(None) => Received::Nothing,
            Ok(Some(count)) if count > 0 => Received::Bytes(count),
            Ok(Some(_)) | Err(_) => Received::Closed,
        }
    }

    fn abort(&mut self, socket: SocketId) {
        // Only one that is gone already cannot be aborted.
        let _done = self.world.abort(socket);
    }
}

/// Turns what ended an attempt into the agent's words, as p2pconnect does with
/// Linux's error of the same name.
const fn classify(failure: Failure) -> ConnectFailure {
    match failure {
        Failure::Refused => ConnectFailure::Refused,
        Failure::Reset => ConnectFailure::Reset,
        Failure::HostUnreachable | Failure::Prohibited => ConnectFailure::HostUnreachable,
        Failure::NetworkUnreachable => ConnectFailure::NetworkUnreachable,
        Failure::TimedOut => ConnectFailure::TimedOut,
        Failure::ProtocolUnreachable | Failure::ProtocolError => ConnectFailure::Other,
    }
}

/// The address on the inside of a NAT.
const fn private(number: u8, layer: usize) -> Ipv4Addr {
    if layer == 0 {
        Ipv4Addr::new(192, 168, number, 2)
    } else {
        Ipv4Addr::new(10, number, layer as u8, 2)
    }
}
