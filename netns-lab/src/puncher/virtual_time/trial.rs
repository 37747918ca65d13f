//! A punch with every knob, and with all that came of it.

use std::time::Duration;

use p2pconnect_nat::NatSpec;
use p2pconnect_punch::{Event, Stats};

use super::super::GATHER_LIMIT;
use super::super::sockets::{Received, Sockets as _};
use super::{Path, Run, SideRun, VirtualTimeError};
use crate::link::LinkSpec;

/// How long both sides go on after their ends: a byte that is lost three times
/// in a row still arrives, and inputs that were under way have come.
const AFTERWARDS: Duration = Duration::from_secs(20);

/// What each side says over the connection that it believes in.
const WORDS: [&[u8]; 2] = [b"from the dialler", b"from the listener"];

/// A punch in virtual time in every detail; the dialler's comes first in each pair.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// The boxes before each peer, the innermost first.
    pub chains: [&'a [NatSpec]; 2],
    /// The links between the core and each peer's outermost box, or the peer.
    pub access: [LinkSpec; 2],
    /// The links between each peer and its innermost box, if it has any.
    pub inside: [LinkSpec; 2],
    /// The access link of the server.
    pub server: LinkSpec,
    /// How much later each peer starts than its coordinator wants.
    pub late: [Duration; 2],
    /// How long each peer may take to learn its mappings.
    pub gather_limit: Duration,
    /// What decides all randomness.
    pub seed: u64,
}

/// What came of a [`Trial`].
#[derive(Debug, Clone)]
pub struct TrialOutcome {
    /// What each peer came to, the dialler first.
    pub sides: [SideOutcome; 2],
    /// Whether what each said over its connection came out at the other's: both
    /// have the same one, and it works. False unless both have a connection.
    pub same_connection: bool,
}

/// What one peer came to.
#[derive(Debug, Clone)]
pub struct SideOutcome {
    /// The agent's outcome; with its report if it failed.
    pub event: Event,
    /// When the agent was started, from the beginning of the world.
    pub started: Duration,
    /// When its outcome was known, from the beginning of the world.
    pub ended: Duration,
    /// Whether it told of an outcome more than once; a defect of the agent.
    pub again: bool,
    /// What the agent has counted.
    pub stats: Stats,
}

/// Why a [`Trial`] has no outcome.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// There is no world to punch in.
    #[error(transparent)]
    World(#[from] VirtualTimeError),
    /// A peer could not learn its mappings.
    #[error("a peer learnt no mapping: {0}")]
    Gather(String),
    /// An agent came to no end in a minute; a defect of the agent.
    #[error("an agent came to no end in a minute")]
    Endless,
}

impl<'a> Trial<'a> {
    /// Returns a punch on time between two peers with the same kind of link,
    /// whose boxes are next to them.
    pub const fn new(chains: [&'a [NatSpec]; 2], path: Path, seed: u64) -> Self {
        Self {
            chains,
            access: [path.peer; 2],
            inside: [LinkSpec::delay(Duration::ZERO); 2],
            server: path.server,
            late: [Duration::ZERO; 2],
            gather_limit: GATHER_LIMIT,
            seed,
        }
    }
}

impl TrialOutcome {
    /// Returns how long it took from the later start until both sides knew.
    pub fn after_both_started(&self) -> Duration {
        let [dialler, listener] = &self.sides;
        let started = dialler.started.max(listener.started);
        let ended = dialler.ended.max(listener.ended);
        ended.saturating_sub(started)
    }
}

/// Punches as the trial says, and tries the connection out.
///
/// The same trial has the same outcome, to the nanosecond.
///
/// # Errors
///
/// [`TrialError`] if it cannot be built, or does not come to its end.
pub fn trial(trial: &Trial<'_>) -> Result<TrialOutcome, TrialError> {
    let mut run = Run::build(trial)?;
    run.world.stop_log();
    let gathered = run.gather(trial.gather_limit).map_err(TrialError::Gather)?;
    let dialled = run.world.now();
    let mut sides = run.run_sessions(&gathered, dialled, trial.late);
    let same_connection = run.go_on(&mut sides);
    let outcomes = sides.map(SideRun::into_outcome);
    let [Some(dialler), Some(listener)] = outcomes else {
        return Err(TrialError::Endless);
    };
    Ok(TrialOutcome {
        sides: [dialler, listener],
        same_connection,
    })
}

impl SideRun {
    fn into_outcome(self) -> Option<SideOutcome> {
        let end = self.end?;
        Some(SideOutcome {
            event: end.event,
            started: self.start,
            ended: end.at,
            again: self.again,
            stats: self.session?.stats(),
        })
    }
}

impl Run {
    /// Has each side talk over its connection, while its agent goes on; returns
    /// whether both have understood.
    fn go_on(&mut self, sides: &mut [SideRun; 2]) -> bool {
        let chosen = [0, 1].map(|side: usize| match &sides[side].end.as_ref()?.event {
            Event::Established { check, .. } => sides[side].session.as_ref()?.verified(*check),
            Event::Failed(_) => None,
        });
        for side in [0, 1] {
            if let Some(socket) = chosen[side] {
                // A connection that has gone is found out below.
                let _sent = self.sockets(side).send(socket, WORDS[side]);
            }
        }
        let mut heard = [Vec::new(), Vec::new()];
        let limit = self.world.now() + AFTERWARDS;
        loop {
            let now = self.now();
            for side in [0, 1] {
                let mut sockets = self.sockets(side);
                if let Some(session) = &mut sides[side].session {
                    sides[side].again |= session.poll(&mut sockets, now).is_some();
                }
                let mut buffer = [0; 32];
                if let Some(socket) = chosen[side]
                    && let Received::Bytes(count) = sockets.receive(socket, &mut buffer)
                {
                    heard[side].extend_from_slice(&buffer[..count]);
                }
            }
            if !self.world.step(limit) {
                return heard == [WORDS[1], WORDS[0]];
            }
        }
    }
}
