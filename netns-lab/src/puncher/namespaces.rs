//! Punches between real kernels, through boxes that are the model.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use p2pconnect_proto::Role;
use p2pconnect_punch::Event;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::gather::{GatherError, Gathered, Gathering};
use super::kernel::{KernelSockets, raise_file_limit};
use super::server::{self, Server};
use super::{
    Ends, GATHER_LIMIT, Lots, PUNCH_LIMIT, Path, PunchOutcome, SideEnd, start_after, start_session,
};
use crate::{Engine, Error, Host, HostSpec, Lab, LabBuilder, NatSpec};

/// Each of two peers is connected back to once from each address.
const BACKS: usize = 4;

/// How soon the server notices that nobody will ask any more.
const SERVER_PATIENCE: Duration = Duration::from_millis(50);

/// How soon a peer notices that the other one has given up.
const MAIL_PATIENCE: Duration = Duration::from_millis(50);

/// Why there is no lab to punch in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespacesError {
    /// The lab cannot be built, or a thread cannot enter it.
    #[error(transparent)]
    Lab(#[from] Error),
    /// The kernel refused a socket that has nothing to do with the path.
    #[error("no sockets for a punch: {0}")]
    Sockets(#[from] io::Error),
}

/// What a peer learnt of itself; the dialler's goes with the moment of the dial.
type Letter = (Gathered, Instant);

/// What a peer came to, with its sockets: they stay open until the other one
/// is done.
type PeerEnd = Result<(SideEnd, KernelSockets), PeerError>;

/// Why a peer came to no end of its own.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    /// What a run counts as a failure.
    #[error(transparent)]
    Gather(#[from] GatherError),
    #[error("the agent came to no end in a minute")]
    Endless,
    /// The other peer says what happened.
    #[error("the other peer has gone")]
    Alone,
    /// What ends the run.
    #[error(transparent)]
    Ground(#[from] NamespacesError),
}

impl From<io::Error> for PeerError {
    fn from(error: io::Error) -> Self {
        Self::Ground(error.into())
    }
}

/// Lets the dialler, behind the first chain, punch to the listener behind the
/// second one, in a lab of its own; chains begin with the innermost box.
///
/// # Errors
///
/// [`NamespacesError`] if the lab cannot be built.
pub fn namespaces(
    chains: [&[NatSpec]; 2],
    path: Path,
    seed: u64,
) -> Result<PunchOutcome, NamespacesError> {
    namespaces_with(chains, path, seed, Engine::Model, None)
}

/// Punches as [`namespaces`] does, between boxes of the engine, and writes
/// what crossed the links to a file.
pub fn namespaces_with(
    chains: [&[NatSpec]; 2],
    path: Path,
    seed: u64,
    engine: Engine,
    capture: Option<PathBuf>,
) -> Result<PunchOutcome, NamespacesError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let peer = |name, chain: &[NatSpec]| {
        let host = HostSpec::new(name).link(path.peer);
        chain.iter().fold(host, |host, spec| host.behind(*spec))
    };
    let lab = Lab::builder()
        .seed(random.next_u64())
        .engine(engine)
        .record(false)
        .host(peer("dialler", chains[0]))
        .host(peer("listener", chains[1]))
        .host(HostSpec::new("server").link(path.server))
        .host(HostSpec::new("server2").link(path.server));
    let lab = capture.into_iter().fold(lab, LabBuilder::capture).build()?;
    let peers = ["dialler", "listener"].map(|name| lab.host(name));
    let servers = ["server", "server2"].map(|name| lab.host(name));
    let outcome = between(peers, &servers, random.next_u64());
    lab.close()?;
    outcome
}

/// Lets the first host punch to the second one, on a lab that is up; the third
/// is their server. It has one address, so that the peers do not learn all of
/// how their NATs filter.
///
/// # Errors
///
/// [`NamespacesError`] if a thread cannot enter a host, or gets no socket there.
pub fn on_hosts(
    [from, to, server]: [&Host; 3],
    seed: u64,
) -> Result<PunchOutcome, NamespacesError> {
    between([from, to], &[server], seed)
}

/// Lets the first peer punch to the second one; all servers are one with
/// several addresses.
fn between(
    [from, to]: [&Host; 2],
    servers: &[&Host],
    seed: u64,
) -> Result<PunchOutcome, NamespacesError> {
    raise_file_limit();
    let lots = &Lots::draw(seed);
    let mut answering = KernelSockets::new()?;
    for server in servers {
        server.run(|| listen(&mut answering, server))??;
    }
    let addresses: Vec<IpAddr> = servers.iter().map(|it| it.ipv4().into()).collect();
    let addresses = addresses.as_slice();
    let stop = AtomicBool::new(false);
    let (to_listener, from_dialler) = mpsc::channel();
    let (to_dialler, from_listener) = mpsc::channel();
    let run = |host: &Host, role, mail| {
        let ended = host.run(|| peer(host, addresses, role, lots, mail));
        ended.unwrap_or_else(|error| Err(NamespacesError::from(error).into()))
    };
    let (dialler, listener) = thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&mut answering, addresses, &stop));
        let listener = scope.spawn(|| {
            run(
                to,
                Role::Controlled,
                Mail {
                    to: to_dialler,
                    from: from_dialler,
                },
            )
        });
        let dialler = run(
            from,
            Role::Controlling,
            Mail {
                to: to_listener,
                from: from_listener,
            },
        );
        let listener = joined(listener.join());
        stop.store(true, Ordering::Relaxed);
        joined(serving.join()).map(|()| (dialler, listener))
    })?;
    conclude(dialler, listener)
}

fn joined<T>(result: thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn conclude(dialler: PeerEnd, listener: PeerEnd) -> Result<PunchOutcome, NamespacesError> {
    match (dialler, listener) {
        (Ok((dialler, _)), Ok((listener, _))) => {
            Ok(PunchOutcome::of_ends(&dialler, &listener, Duration::ZERO))
        }
        (Err(PeerError::Ground(error)), _) | (_, Err(PeerError::Ground(error))) => Err(error),
        (Err(PeerError::Alone), Err(error)) | (Err(error), _) | (_, Err(error)) => {
            Ok(PunchOutcome::failed(error.to_string()))
        }
    }
}

/// Opens the sockets of one of the server's addresses, on its host; those for
/// connecting in advance, as the thread that serves is on none.
fn listen(sockets: &mut KernelSockets, server: &Host) -> io::Result<()> {
    let address = server.ipv4().into();
    for port in server::PORTS {
        sockets.open_listener(address, port)?;
    }
    for _ in 0..BACKS {
        sockets.reserve((address, server::BACK_PORT).into())?;
    }
    Ok(())
}

/// Answers whoever comes to the server.
fn serve(
    sockets: &mut KernelSockets,
    addresses: &[IpAddr],
    stop: &AtomicBool,
) -> Result<(), NamespacesError> {
    let mut server = Server::new(addresses.to_vec());
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        server.poll(sockets, now);
        let due = server.next_timeout();
        let left = due.map(|at| at.saturating_duration_since(now));
        sockets.wait(left.map_or(SERVER_PATIENCE, |left| left.min(SERVER_PATIENCE)))?;
    }
    Ok(())
}

/// How a peer exchanges letters with the other one.
struct Mail {
    to: Sender<Letter>,
    from: Receiver<Letter>,
}

/// One peer, on its host.
fn peer(host: &Host, servers: &[IpAddr], role: Role, lots: &Lots, mail: Mail) -> PeerEnd {
    let Mail { to, from } = mail;
    let mut sockets = KernelSockets::new()?;
    let address = host.ipv4().into();
    let mut punch_port = || sockets.open_listener(address, 0);
    let punch_ports = [punch_port()?, punch_port()?];
    let ends = Ends::new(punch_ports, servers, &mut lots.random(role));
    let own = gather(&mut sockets, ends)?;
    let alone = |_| PeerError::Alone;
    let (other, dialled, side) = match role {
        Role::Controlling => {
            let (other, _) = from.recv().map_err(alone)?;
            let dialled = Instant::now();
            to.send((own.clone(), dialled))
                .map_err(|_| PeerError::Alone)?;
            (other, dialled, 0)
        }
        Role::Controlled => {
            let letter = (own.clone(), Instant::now());
            to.send(letter).map_err(|_| PeerError::Alone)?;
            let (other, dialled) = from.recv().map_err(alone)?;
            (other, dialled, 1)
        }
    };
    let rtts = if side == 0 {
        (own.rtt, other.rtt)
    } else {
        (other.rtt, own.rtt)
    };
    let start = dialled + start_after(rtts.0, rtts.1)[side];
    wait_until(&mut sockets, start)?;
    let mut session = start_session(&own, &other, role, lots, Instant::now());
    let limit = dialled + PUNCH_LIMIT;
    loop {
        let now = Instant::now();
        // The dialler's second letter.
        if role == Role::Controlled && from.try_recv().is_ok() {
            session.give_up(now);
        }
        if let Some(event) = session.poll(&mut sockets, now) {
            if role == Role::Controlling && matches!(event, Event::Failed(_)) {
                // Who has ended already needs none.
                drop(to.send((own, now)));
            }
            let at = now.saturating_duration_since(dialled);
            return Ok((SideEnd { event, at }, sockets));
        }
        if now >= limit {
            return Err(PeerError::Endless);
        }
        let wake = session.next_timeout().map_or(limit, |at| at.min(limit));
        let wake = wake.min(now + MAIL_PATIENCE);
        sockets.wait(wake.saturating_duration_since(now))?;
    }
}

fn gather(sockets: &mut KernelSockets, ends: Ends) -> Result<Gathered, PeerError> {
    let mut gathering = Gathering::begin(ends, GATHER_LIMIT, sockets, Instant::now())?;
    let limit = Instant::now() + GATHER_LIMIT;
    loop {
        let now = Instant::now();
        if let Some(result) = gathering.poll(sockets, now) {
            return Ok(result?);
        }
        sockets.wait(limit.saturating_duration_since(now))?;
    }
}

fn wait_until(sockets: &mut KernelSockets, moment: Instant) -> Result<(), PeerError> {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        sockets.wait(left)?;
    }
}
