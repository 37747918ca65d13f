//! The punch agent of p2pconnect on the hosts of a lab.
//!
//! A punch is what two peers and their server do for one connection: each peer
//! learns its mapping by a connection that it holds from its punch port, and
//! from a spare one, to a server that reports the source it sees; the dialler
//! asks for the other peer; both start at the moment that their coordinator
//! aims at, and the agent punches until it has a connection or gives up.
//!
//! [`virtual_time()`] and [`namespaces()`] do that with one driver, which puts
//! the same questions to the sockets of either ground.
//!
//! # Deviations from p2pconnect
//!
//! - Verification is five messages with the session token, a hello, a reply and
//!   the nomination, in the order and with the round trips of the TLS handshake
//!   that they stand for. They prove nothing.
//! - What peers and server say to each other takes the time that it would take,
//!   but crosses no link; a lossy path loses punches, not signalling.

mod gather;
mod kernel;
mod namespaces;
mod server;
mod session;
mod sockets;
mod verify;
mod virtual_time;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use p2pconnect_proto::{PunchPort, Role};
use p2pconnect_punch::{Event, Introduced, PunchAgent, PunchConfig};
use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::link::LinkSpec;
use gather::{EXTRA_PORTS, Gathered};
use session::{Parties, Session};

pub use namespaces::namespaces_with;
pub use namespaces::{NamespacesError, namespaces, on_hosts};
pub use virtual_time::in_world;
pub use virtual_time::{
    SideOutcome, Trial, TrialError, TrialOutcome, VirtualTimeError, trial, virtual_time,
    virtual_time_with_log,
};

/// The longest that one message is held back for a common start; as p2pconnect's
/// coordinator has it.
const MAX_DELAY: Duration = Duration::from_millis(1500);

/// Where the rows of unused ports begin: above what servers use, and so that
/// they end below Linux's ephemeral ports.
const ROWS: RangeInclusive<u16> = 10_000..=(32_767 - FRESH_PORTS - EXTRA_PORTS);

/// As many fresh ports as an agent ever uses, in two batches of 640.
const FRESH_PORTS: u16 = 2048;

/// The longest that a peer may take to learn its mappings: two lost SYNs.
const GATHER_LIMIT: Duration = Duration::from_secs(5);

/// Longer than any agent goes on, on any path of a lab.
const PUNCH_LIMIT: Duration = Duration::from_secs(60);

/// The links between peers and server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// The access link of each peer.
    pub peer: LinkSpec,
    /// The access link of the server.
    pub server: LinkSpec,
}

impl Default for Path {
    /// Returns a path with 80 ms between the peers and 42 ms to the server,
    /// there and back.
    fn default() -> Self {
        Self {
            peer: LinkSpec::delay(Duration::from_millis(20)),
            server: LinkSpec::delay(Duration::from_millis(1)),
        }
    }
}

impl Path {
    /// Returns the least time from a dial until both sides agree on a connection
    /// that they have verified.
    ///
    /// The request and the common start take a round trip to the server, and
    /// crossing SYNs one between the peers; hello, reply and nomination take one
    /// and a half.
    pub fn bound(&self) -> Duration {
        self.to_server() + self.between_peers() * 5 / 2
    }

    /// Returns the round-trip time between a peer and the server.
    pub fn to_server(&self) -> Duration {
        2 * (self.peer.one_way() + self.server.one_way())
    }

    /// Returns the round-trip time between the peers.
    pub const fn between_peers(&self) -> Duration {
        self.peer.one_way().saturating_mul(4)
    }
}

/// What came of a punch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PunchOutcome {
    /// The connection, if both sides have agreed on one.
    pub established: Option<Established>,
    /// What the side that failed said, the dialler if both did.
    pub failure: Option<String>,
    /// The time from the start of the dial until no side tried any more, if it
    /// failed.
    pub failed_after: Option<Duration>,
}

/// A connection that both sides have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// In what way it came about, seen from the dialler.
    pub how: String,
    /// The time from the start of the dial until both sides knew.
    pub after: Duration,
}

/// What one side came to, and when.
#[derive(Debug, Clone)]
struct SideEnd {
    event: Event,
    at: Duration,
}

impl PunchOutcome {
    fn failed(why: impl Into<String>) -> Self {
        Self {
            established: None,
            failure: Some(why.into()),
            failed_after: None,
        }
    }

    /// Draws the conclusion from both sides' ends, the dialler's first; times
    /// count from the same moment as `dialled`.
    fn of_ends(dialler: &SideEnd, listener: &SideEnd, dialled: Duration) -> Self {
        let after = dialler.at.max(listener.at).saturating_sub(dialled);
        let failed = |why| Self {
            failed_after: Some(after),
            ..Self::failed(why)
        };
        match (&dialler.event, &listener.event) {
            (Event::Established { how, .. }, Event::Established { .. }) => Self {
                established: Some(Established {
                    how: how.to_string(),
                    after,
                }),
                failure: None,
                failed_after: None,
            },
            (Event::Failed(report), _) => failed(report.to_string()),
            (Event::Established { .. }, Event::Failed(report)) => failed(format!(
                "Only the dialler believes in the connection; the listener says: {report}"
            )),
        }
    }
}

/// What both peers of a punch draw from its seed.
#[derive(Debug, Clone, Copy)]
struct Lots {
    token: [u8; 16],
    agents: [[u8; 32]; 2],
}

impl Lots {
    fn draw(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut lots = Self {
            token: [0; 16],
            agents: [[0; 32]; 2],
        };
        random.fill_bytes(&mut lots.token);
        for agent in &mut lots.agents {
            random.fill_bytes(agent);
        }
        lots
    }

    /// What the agent of a side draws from.
    const fn agent(&self, role: Role) -> [u8; 32] {
        match role {
            Role::Controlling => self.agents[0],
            Role::Controlled => self.agents[1],
        }
    }

    /// What the rest of a side draws from.
    fn random(&self, role: Role) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::from_seed(self.agent(role));
        random.set_stream(1);
        random
    }
}

/// Where a peer listens and connects from, and the server's addresses.
#[derive(Debug, Clone, Copy)]
struct Ends {
    punch_ports: [SocketAddr; 2],
    /// The first of [`EXTRA_PORTS`] ports for questions alone.
    extra: SocketAddr,
    /// The first of [`FRESH_PORTS`] unused ports.
    fresh: SocketAddr,
    /// Two ports of one address.
    servers: [SocketAddr; 2],
    /// The server's other address, if it has one.
    other_address: Option<SocketAddr>,
}

impl Ends {
    /// Chooses the rows of unused ports below the ephemeral ones, among which
    /// the punch ports are.
    fn new(punch_ports: [SocketAddr; 2], servers: &[IpAddr], random: &mut impl Rng) -> Self {
        let row = random.random_range(ROWS);
        let here = punch_ports[0].ip();
        let server = servers.first().copied().unwrap_or(here);
        let other = servers.get(1).copied();
        Self {
            punch_ports,
            extra: (here, row).into(),
            fresh: (here, row + EXTRA_PORTS).into(),
            servers: server::PORTS.map(|port| (server, port).into()),
            other_address: other.map(|address| (address, server::PORTS[0]).into()),
        }
    }
}

/// Returns how long after the dial the two peers start, the dialler first.
///
/// The request takes half the dialler's round trip; then the nearer peer's
/// message is held back so that both arrive together.
fn start_after(dialler_rtt: Duration, listener_rtt: Duration) -> [Duration; 2] {
    let waits = |own: Duration, other: Duration| (other.saturating_sub(own) / 2).min(MAX_DELAY);
    let request = dialler_rtt / 2;
    [
        request + waits(dialler_rtt, listener_rtt) + dialler_rtt / 2,
        request + waits(listener_rtt, dialler_rtt) + listener_rtt / 2,
    ]
}

/// Makes the session of one side, at its start moment.
fn start_session<S: Copy + Ord>(
    own: &Gathered,
    other: &Gathered,
    role: Role,
    lots: &Lots,
    now: Instant,
) -> Session<S> {
    let introduced = Introduced {
        role,
        routes: Default::default(),
        translated: Default::default(),
        bases: own.bases.clone(),
        remote_candidates: other.candidates.clone(),
        may_be_reached: false,
        families_apart: false,
        rtt_via_coordinator: own.rtt + other.rtt,
        local_nat: own.nat,
        remote_nat: other.nat,
    };
    let known = other.candidates.iter().map(|it| it.address.ip()).collect();
    let agent = PunchAgent::new(PunchConfig::default(), introduced, lots.agent(role), now);
    let fresh = own
        .bases
        .iter()
        .find(|base| base.punch_port == PunchPort::FRESH);
    let parties = Parties {
        role,
        token: lots.token,
        known,
        fresh: fresh.map(|base| base.address),
    };
    Session::new(agent, parties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_start_when_the_farther_peer_is_told() {
        let ms = Duration::from_millis;
        assert_eq!(start_after(ms(42), ms(42)), [ms(42), ms(42)]);
        assert_eq!(start_after(ms(10), ms(50)), [ms(30), ms(30)]);
        assert_eq!(start_after(ms(50), ms(10)), [ms(50), ms(50)]);
        assert_eq!(start_after(ms(0), ms(5_000)), [ms(1_500), ms(2_500)]);
    }
}
