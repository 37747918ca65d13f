//! Learning one's own mappings from the server.

use std::net::SocketAddr;
use std::str;
use std::time::{Duration, Instant};

use p2pconnect_proto::{Candidate, NatMapping, NatReport, PortAssignment, PunchPort};
use p2pconnect_punch::{Base, ConnectFailure};

use super::Ends;
use super::sockets::{Progress, Received, Sockets};

/// An address and a port as text, with the end of the line.
const MAX_ANSWER: usize = 64;

const PUNCH_PORTS: [PunchPort; 2] = [PunchPort::PRIMARY, PunchPort::SPARE];

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

/// The questions of one peer to the server.
#[derive(Debug)]
pub(super) struct Gathering<S> {
    ends: Ends,
    limit: Duration,
    began: Instant,
    questions: Vec<Question<S>>,
}

#[derive(Debug)]
struct Question<S> {
    socket: S,
    connected_after: Option<Duration>,
    answer: Vec<u8>,
    mapped: Option<SocketAddr>,
}

impl<S: Copy> Gathering<S> {
    /// Asks from the primary punch port, the spare one, and again from the
    /// primary one but another port of the server; gives up after `limit`.
    pub(super) fn begin<T: Sockets<Socket = S>>(
        (ends, limit): (Ends, Duration),
        sockets: &mut T,
        now: Instant,
    ) -> Result<Self, GatherError> {
        let [primary, spare] = ends.punch_ports;
        let [server, second] = ends.servers;
        let ask = |(local, remote)| {
            let socket = sockets.connect(local, remote);
            Ok(Question {
                socket: socket.map_err(GatherError::Connect)?,
                connected_after: None,
                answer: Vec::new(),
                mapped: None,
            })
        };
        let questions = [(primary, server), (spare, server), (primary, second)];
        Ok(Self {
            ends,
            limit,
            began: now,
            questions: questions.into_iter().map(ask).collect::<Result<_, _>>()?,
        })
    }

    /// Looks what has come; `None` if there is more to come.
    pub(super) fn poll<T: Sockets<Socket = S>>(
        &mut self,
        sockets: &mut T,
        now: Instant,
    ) -> Option<Result<Gathered, GatherError>> {
        let elapsed = now.saturating_duration_since(self.began);
        for question in &mut self.questions {
            if let Err(error) = question.poll(sockets, elapsed) {
                return Some(Err(error));
            }
        }
        let mapped: Option<Vec<_>> = self.questions.iter().map(|it| it.mapped).collect();
        match mapped.as_deref() {
            Some([primary, spare, second]) => Some(Ok(self.conclude(*primary, *spare, *second))),
            _ if elapsed >= self.limit => Some(Err(GatherError::TimedOut)),
            _ => None,
        }
    }

    fn conclude(&self, primary: SocketAddr, spare: SocketAddr, second: SocketAddr) -> Gathered {
        let ends = self.ends;
        let mut candidates = Vec::new();
        let mut bases = Vec::new();
        for ((punch_port, address), mapped) in PUNCH_PORTS
            .into_iter()
            .zip(ends.punch_ports)
            .zip([primary, spare])
        {
            bases.push(Base {
                address,
                punch_port,
            });
            if mapped != address {
                candidates.push(Candidate::server_reflexive(mapped, punch_port, None));
            }
            candidates.push(Candidate::host(address, punch_port));
        }
        let mapping = if primary == second {
            NatMapping::EndpointIndependent
        } else {
            NatMapping::AddressAndPortDependent
        };
        let preserved = [primary, spare]
            .iter()
            .zip(ends.punch_ports)
            .all(|(mapped, local)| mapped.port() == local.port());
        let rtts = self.questions.iter().filter_map(|it| it.connected_after);
        Gathered {
            candidates,
            bases,
            nat: NatReport {
                mapping: Some(mapping),
                ports: preserved.then_some(PortAssignment::Preserved),
                ..NatReport::default()
            },
            // The least, for a SYN may have been lost.
            rtt: rtts.min().unwrap_or_default(),
        }
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
        let mut buffer = [0; MAX_ANSWER];
        match sockets.receive(self.socket, &mut buffer) {
            Received::Nothing => return Ok(()),
            Received::Closed => return Err(GatherError::Answer),
            Received::Bytes(count) => self.answer.extend_from_slice(&buffer[..count]),
        }
        let Some(line) = self.answer.strip_suffix(b"\n") else {
            let fits = self.answer.len() <= MAX_ANSWER;
            return fits.then_some(()).ok_or(GatherError::Answer);
        };
        let mapped = str::from_utf8(line).ok().and_then(|text| text.parse().ok());
        self.mapped = Some(mapped.ok_or(GatherError::Answer)?);
        Ok(())
    }
}
