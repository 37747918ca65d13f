//! Learning from the server how one's own NATs behave, and one's candidates.
//!
//! Every connection is made once, in this order; the numbers are places in
//! `questions`:
//!
//! 0. from the primary punch port to the server, 1. to its other port, 2. to its
//!    other address: the mapping (RFC 5780 section 4.3),
//! 3. from the spare punch port,
//! 4. from a port of its own, which the server connects back to: the filtering.
//!    No punch port, as what comes back could spoil one;
//! 5. and on, from unused local ports: the range of random ports, where that
//!    matters; then, right before the dial, the place of a sequential allocator.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use p2pconnect_proto::{
    Candidate, CandidateKind, NatMapping, NatReport, PortAssignment, PunchPort,
};
use p2pconnect_punch::behaviour::{self, ConnectBack, Observation, SeenRange};
use p2pconnect_punch::{Base, ConnectFailure};

use super::Ends;
use super::server::{Line, NoLine, read_backs, request};
use super::sockets::{Progress, Sockets};

const PUNCH_PORTS: [PunchPort; 2] = [PunchPort::PRIMARY, PunchPort::SPARE];

/// Connections that show the range of random ports. With the five that are made
/// anyway they are thirteen, which tell its size to within a third.
const SAMPLES: u16 = 8;

/// Local ports for samples, for the connections back and for a last look.
pub(super) const EXTRA_PORTS: u16 = SAMPLES + 2;

/// How long the server waits for answers to its connections back: four round
/// trips, and what a busy machine needs at least.
const LEAST_PATIENCE: Duration = Duration::from_millis(200);

/// What a peer knows of itself before it dials or is dialled.
#[derive(Debug, Clone)]
pub(super) struct Gathered {
    pub(super) candidates: Vec<Candidate>,
    pub(super) bases: Vec<Base>,
    pub(super) nat: NatReport,
    /// The round trip to the server.
    pub(super) rtt: Duration,
}

/// Why a peer learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum GatherError {
    #[error("the server cannot be reached: {0:?}")]
    Connect(ConnectFailure),
    #[error("the server gave no usable answer")]
    Answer,
    #[error("the server did not answer in time")]
    TimedOut,
}

impl From<NoLine> for GatherError {
    fn from(_: NoLine) -> Self {
        Self::Answer
    }
}

/// The questions of one peer to the server.
#[derive(Debug)]
pub(super) struct Gathering<S> {
    ends: Ends,
    limit: Duration,
    began: Instant,
    questions: Vec<Question<S>>,
    /// The place of the question that the server is to connect back on.
    probe: usize,
    backs: Backs,
    next_extra: u16,
    /// Whether the last look at a sequential allocator is under way.
    looked: bool,
}

#[derive(Debug)]
struct Question<S> {
    local: SocketAddr,
    server: SocketAddr,
    socket: S,
    connected_after: Option<Duration>,
    answer: Line,
    mapped: Option<SocketAddr>,
}

#[derive(Debug)]
enum Backs {
    NotAsked,
    Asked(Line),
    Known(Vec<ConnectBack>),
}

impl<S: Copy> Gathering<S> {
    /// Asks the first questions; gives up after `limit`.
    pub(super) fn begin<T: Sockets<Socket = S>>(
        ends: Ends,
        limit: Duration,
        sockets: &mut T,
        now: Instant,
    ) -> Result<Self, GatherError> {
        let [primary, spare] = ends.punch_ports;
        let [server, other_port] = ends.servers;
        let mut gathering = Self {
            ends,
            limit,
            began: now,
            questions: Vec::new(),
            probe: 0,
            backs: Backs::NotAsked,
            next_extra: 0,
            looked: false,
        };
        gathering.ask(primary, server, sockets)?;
        gathering.ask(primary, other_port, sockets)?;
        if let Some(other_address) = ends.other_address {
            gathering.ask(primary, other_address, sockets)?;
        }
        gathering.ask(spare, server, sockets)?;
        gathering.probe = gathering.questions.len();
        let probe = gathering.extra();
        sockets.listen(probe);
        gathering.ask(probe, server, sockets)?;
        Ok(gathering)
    }

    fn ask<T: Sockets<Socket = S>>(
        &mut self,
        local: SocketAddr,
        server: SocketAddr,
        sockets: &mut T,
    ) -> Result<(), GatherError> {
        let socket = sockets.connect(local, server);
        self.questions.push(Question {
            local,
            server,
            socket: socket.map_err(GatherError::Connect)?,
            connected_after: None,
            answer: Line::default(),
            mapped: None,
        });
        Ok(())
    }

    /// Returns the next unused local port.
    fn extra(&mut self) -> SocketAddr {
        let mut local = self.ends.extra;
        local.set_port(local.port() + self.next_extra);
        self.next_extra += 1;
        local
    }

    /// Looks what has come; `None` if there is more to come.
    pub(super) fn poll<T: Sockets<Socket = S>>(
        &mut self,
        sockets: &mut T,
        now: Instant,
    ) -> Option<Result<Gathered, GatherError>> {
        let elapsed = now.saturating_duration_since(self.began);
        let advanced = self.advance(sockets, elapsed);
        match advanced {
            Err(error) => Some(Err(error)),
            Ok(false) if elapsed >= self.limit => Some(Err(GatherError::TimedOut)),
            Ok(false) => None,
            Ok(true) => {
                // What was held for the questions alone frees its ports.
                for question in &self.questions[self.probe..] {
                    sockets.abort(question.socket);
                }
                Some(Ok(self.conclude()))
            }
        }
    }

    /// Takes in what has come, and asks what is still to be asked; true once
    /// that is nothing.
    fn advance<T: Sockets<Socket = S>>(
        &mut self,
        sockets: &mut T,
        elapsed: Duration,
    ) -> Result<bool, GatherError> {
        while let Some((socket, _, _)) = sockets.accept() {
            // What comes back has told the server what it wanted to know.
            sockets.abort(socket);
        }
        for question in &mut self.questions {
            question.poll(sockets, elapsed)?;
        }
        self.hear_of_backs(sockets)?;
        let answered = self.questions.iter().all(|it| it.mapped.is_some());
        if !answered || !matches!(self.backs, Backs::Known(_)) {
            return Ok(false);
        }
        let server = self.ends.servers[0];
        if self.next_extra == 1 && behaviour::wants_samples(&self.observations()) {
            for _ in 0..SAMPLES {
                let local = self.extra();
                self.ask(local, server, sockets)?;
            }
            return Ok(false);
        }
        if !self.looked && self.is_sequential() {
            self.looked = true;
            let local = self.extra();
            self.ask(local, server, sockets)?;
            return Ok(false);
        }
        Ok(true)
    }

    fn hear_of_backs<T: Sockets<Socket = S>>(
        &mut self,
        sockets: &mut T,
    ) -> Result<(), GatherError> {
        let probe = &self.questions[self.probe];
        match &mut self.backs {
            Backs::NotAsked => {
                if let (Some(_), Some(rtt)) = (probe.mapped, probe.connected_after) {
                    let patience = (rtt * 4).max(LEAST_PATIENCE);
                    if !sockets.send(probe.socket, request(patience).as_bytes()) {
                        return Err(GatherError::Answer);
                    }
                    self.backs = Backs::Asked(Line::default());
                }
            }
            Backs::Asked(line) => {
                if let Some(line) = line.poll(sockets, probe.socket)? {
                    self.backs = Backs::Known(read_backs(line));
                }
            }
            Backs::Known(_) => {}
        }
        Ok(())
    }

    fn observations(&self) -> Vec<Observation> {
        let questions = self.questions.iter();
        questions
            .filter_map(|question| {
                Some(Observation {
                    local: question.local,
                    server: question.server,
                    mapped: question.mapped?,
                })
            })
            .collect()
    }

    fn report(&self) -> NatReport {
        let backs = match &self.backs {
            Backs::Known(backs) => backs.as_slice(),
            Backs::NotAsked | Backs::Asked(_) => &[],
        };
        behaviour::conclude(&self.observations(), backs)
    }

    fn is_sequential(&self) -> bool {
        let nat = self.report();
        varies(&nat) && matches!(nat.ports, Some(PortAssignment::Sequential { .. }))
    }

    fn conclude(&self) -> Gathered {
        let nat = self.report();
        let mut candidates = Vec::new();
        let mut bases = Vec::new();
        for (punch_port, address) in PUNCH_PORTS.into_iter().zip(self.ends.punch_ports) {
            bases.push(Base {
                address,
                punch_port,
            });
            let of_port = self.questions.iter().find(|it| it.local == address);
            let mapped = of_port.and_then(|question| question.mapped);
            if let Some(mapped) = mapped.filter(|mapped| *mapped != address) {
                candidates.push(Candidate::server_reflexive(mapped, punch_port, None));
            }
            candidates.push(Candidate::host(address, punch_port));
        }
        if let Some(address) = self.predicted(&nat) {
            let punch_port = PunchPort::FRESH;
            bases.push(Base {
                address: self.ends.fresh,
                punch_port,
            });
            candidates.push(Candidate {
                kind: CandidateKind::Predicted,
                address,
                punch_port,
                token: None,
            });
        }
        let rtts = self.questions.iter().filter_map(|it| it.connected_after);
        Gathered {
            candidates,
            bases,
            nat,
            // The least, for a SYN may have been lost.
            rtt: rtts.min().unwrap_or_default(),
        }
    }

    /// Returns from where the first connection out of the first fresh port is
    /// expected, if it is another mapping than that of a punch port.
    fn predicted(&self, nat: &NatReport) -> Option<SocketAddr> {
        let observations = self.observations();
        let mut address = observations.last()?.mapped;
        let taken = || observations.iter().map(|it| it.mapped.port());
        let port = match nat.ports {
            _ if !varies(nat) => None,
            Some(PortAssignment::Preserved) => Some(self.ends.fresh.port()),
            Some(PortAssignment::Sequential { delta }) => Some(address.port().wrapping_add(delta)),
            // One of the range that is not in use. Where the range can be filled, the
            // peers meet there for sure: each dials the other's from all of its own.
            Some(PortAssignment::Random { .. }) => {
                SeenRange::of(taken())?.free_port(&taken().collect())
            }
            None => None,
        };
        address.set_port(port?);
        Some(address)
    }
}

/// Tells whether a new destination gets a new mapping.
fn varies(nat: &NatReport) -> bool {
    match nat.mapping {
        None | Some(NatMapping::EndpointIndependent) => false,
        Some(NatMapping::AddressDependent | NatMapping::AddressAndPortDependent) => true,
    }
}

impl<S: Copy> Question<S> {
    fn poll<T: Sockets<Socket = S>>(
        &mut self,
        sockets: &mut T,
        elapsed: Duration,
    ) -> Result<(), GatherError> {
        if self.mapped.is_some() {
            return Ok(());
        }
        if self.connected_after.is_none() {
            match sockets.progress(self.socket) {
                Progress::Connecting => return Ok(()),
                Progress::Failed(failure) => return Err(GatherError::Connect(failure)),
                Progress::Open(_) => self.connected_after = Some(elapsed),
            }
        }
        if let Some(line) = self.answer.poll(sockets, self.socket)? {
            self.mapped = Some(line.parse().map_err(|_| GatherError::Answer)?);
        }
        Ok(())
    }
}
