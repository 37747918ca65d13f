//! Runs of scenarios.

mod judge;
mod namespaces;
mod virtual_time;

use std::time::Duration;

use super::{Play, Scenario};
use crate::{
    Engine,
    contender::{Contender, ContenderError, PunchOutcome},
    error::Error,
    record::EventLog,
    report::Ladder,
    virtual_time::SocketError,
};

/// Where a scenario runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ground {
    /// In virtual time, the same for a seed to the byte.
    VirtualTime,
    /// Between real kernels, with boxes of this kind; only inside of
    /// [`isolate`](crate::isolate) or [`test`](crate::test()).
    Namespaces(Engine),
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every dial, or the punch, has connected.
    Connected,
    /// One has not, and why.
    Failed(String),
}

/// How a dial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DialEnd {
    /// There was a connection, whatever became of it later.
    Connected,
    /// A reset or "port unreachable" ended the attempt.
    Refused,
    /// Another ICMP error ended the attempt.
    Unreachable,
    /// Nothing came back until the end of the run.
    Unanswered,
}

impl DialEnd {
    /// In the words of scenarios.
    pub(super) const WORDS: [(&str, Self); 4] = [
        ("connected", Self::Connected),
        ("refused", Self::Refused),
        ("unreachable", Self::Unreachable),
        ("unanswered", Self::Unanswered),
    ];

    fn word(self) -> &'static str {
        let mut words = Self::WORDS.iter();
        let word = words.find(|(_, end)| *end == self);
        word.map_or("", |(word, _)| *word)
    }
}

/// What came of one dial.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialRun {
    /// How it ended.
    pub end: DialEnd,
    /// In what way it connected: `simultaneous-open` or `connected`. Real kernels do not tell.
    pub how: Option<String>,
    /// When it connected, counted from the start of the run.
    pub at: Option<Duration>,
    /// Whether all that was sent to the host that was dialled has come there.
    pub delivered: bool,
}

/// What came of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScenarioRun {
    /// Whether it connected.
    pub outcome: Outcome,
    /// In what way the first dial, or the punch, connected.
    pub how: Option<String>,
    /// How long that took, until the last of the dials was connected.
    pub after: Option<Duration>,
    /// The dials in the order of time; none for a punch.
    pub dials: Vec<DialRun>,
    /// What happened to each packet.
    pub log: EventLog,
    /// The same as a picture.
    pub ladder: Ladder,
    /// What was expected and has not come true, one sentence each.
    pub unmet: Vec<String>,
}

/// Why a scenario cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The lab cannot be built, or does not work.
    #[error(transparent)]
    Lab(#[from] Error),
    /// The scenario has a punch, and nobody is there to dial.
    #[error("the scenario has a punch, which needs a contender")]
    NoContender,
    /// The contender cannot dial.
    #[error(transparent)]
    Contender(ContenderError),
    /// A host cannot do what the scenario wants of it.
    #[error("host {host:?} cannot do what the scenario says: {source}")]
    Host {
        /// The host.
        host: String,
        /// What is in the way.
        source: SocketError,
    },
    /// The same of a host in namespaces.
    #[error("host {host:?} cannot do what the scenario says: {source}")]
    System {
        /// The host.
        host: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The scenario, or the punch between `a`, `b` and `server` of one that says nothing else,
    /// names a place that its topology has not.
    #[error("the scenario wants a place {name:?}, which its lab has not")]
    NoPlace {
        /// What it wants.
        name: String,
    },
}

/// What a ground has seen of a run.
#[derive(Debug, Default)]
struct Seen {
    dials: Vec<DialRun>,
    /// Of a punch: in what way and how fast, or why not.
    punch: Option<Result<(String, Duration), String>>,
    log: EventLog,
}

/// Does what a scenario says, and compares the outcome with what it expects. If it has a punch, the
/// contender dials.
///
/// # Errors
///
/// [`RunError`] if the ground cannot show it; an outcome that was not expected is no error.
pub fn run(
    scenario: &Scenario,
    ground: Ground,
    seed: u64,
    contender: Option<&dyn Contender>,
) -> Result<ScenarioRun, RunError> {
    check_hosts(scenario)?;
    let contender = contender.ok_or(RunError::NoContender);
    let seen = match ground {
        Ground::VirtualTime => virtual_time::run(scenario, seed, contender)?,
        Ground::Namespaces(engine) => namespaces::run(scenario, engine, seed, contender)?,
    };
    Ok(judge::judge(scenario, seen, seed))
}

/// Refuses a punch between hosts that the lab has not. A file that is about programs alone has the
/// punch that is usual, and may have other hosts.
fn check_hosts(scenario: &Scenario) -> Result<(), RunError> {
    let Play::Punch(hosts) = &scenario.play else {
        return Ok(());
    };
    let known: Vec<_> = scenario.topology.host_names().collect();
    let lacking = hosts.lacking(&known);
    lacking.map_or(Ok(()), |name| Err(RunError::NoPlace { name: name.clone() }))
}

impl Seen {
    /// Returns what came of a punch.
    fn punch(outcome: PunchOutcome, log: EventLog) -> Self {
        let established = outcome.established.map(|it| (it.how, it.after));
        let why = outcome.failure.unwrap_or_default();
        Self {
            dials: Vec::new(),
            punch: Some(established.ok_or(why)),
            log,
        }
    }
}
