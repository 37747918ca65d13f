//! Scenarios: a lab, what happens in it and what is to come of it, as a file.
//!
//! A scenario is TOML, in the words of [`Topology`] and [`NatSpec`](crate::NatSpec).
//! [`Scenario::parse`] reads it, [`Scenario::topology`] is the lab for either ground, and [`run()`]
//! does what the scenario says and compares it with what it expects. `SCENARIOS.md` describes every
//! field.
//!
//! ```
//! use netns_lab::scenario::{self, Ground, Scenario};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scenario = Scenario::parse(
//!     r#"
//!     [hosts.a]
//!     behind = ["openwrt"]
//!     link = { delay = "20ms" }
//!
//!     [hosts.server]
//!     listen = [80]
//!
//!     [[dials]]
//!     from = "a"
//!     to = "server"
//!     to_port = 80
//!
//!     [expect]
//!     result = "connected"
//!     within = "40ms"
//!     "#,
//! )?;
//! let run = scenario::run(&scenario, Ground::VirtualTime, 1, None)?;
//! assert_eq!(run.unmet, [] as [&str; 0]);
//! # Ok(())
//! # }
//! ```

mod boxes;
mod error;
mod fields;
mod links;
mod read;
mod run;
mod schema;
mod script;
mod shipped;
mod values;

use std::time::Duration;

use crate::topology::Topology;

pub use crate::{contender::Punch, virtual_time::Change};
pub use error::ScenarioError;
pub use run::{DialEnd, DialRun, Ground, Outcome, RunError, ScenarioRun, run};
pub use schema::fields;
pub use shipped::{UnknownScenario, find, shipped};

/// A lab, what happens in it and what is to come of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub(crate) title: String,
    pub(crate) seed: u64,
    pub(crate) limit: Duration,
    pub(crate) topology: Topology,
    pub(crate) listeners: Vec<(String, u16)>,
    pub(crate) play: Play,
    pub(crate) steps: Vec<Step>,
    pub(crate) expect: Expect,
}

/// What the hosts of a scenario do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Play {
    /// Each dial happens once; nothing is tried again but by TCP itself.
    Dials(Vec<Dial>),
    /// A contender dials, with all that it knows.
    Punch(Punch),
}

/// A TCP connection that a host asks for once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dial {
    /// When, counted from the start of the run.
    pub at: Duration,
    /// The host that dials.
    pub from: String,
    /// The host whose outermost address it dials.
    pub to: String,
    /// The port it dials from.
    pub from_port: u16,
    /// The port it dials.
    pub to_port: u16,
    /// When it sends a line over the connection.
    pub send_at: Vec<Duration>,
    /// What is to come of it.
    pub expect: Option<DialEnd>,
    /// Whether all that was sent to the host is to arrive there.
    pub delivered: Option<bool>,
}

/// Something that happens to the lab while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// When, counted from the start of the run.
    pub at: Duration,
    /// The host or box that it happens to.
    pub place: String,
    /// What happens.
    pub change: Change,
}

/// What is to come of a scenario; what is absent is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expect {
    /// Whether every dial, or the punch, connects.
    pub connected: Option<bool>,
    /// In which ways the first dial, or the punch, may connect; empty for any.
    pub how: Vec<String>,
    /// How long after the first dial all are connected at the latest.
    pub within: Option<Duration>,
    /// How many packets with private sources come to the core.
    pub leaks: Option<usize>,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`] with the place of the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        read::read(text).map_err(|fault| ScenarioError::at(text, &fault))
    }

    /// Makes a scenario of a lab in which a contender dials from host `a` to host `b`, with the
    /// help of host `server`.
    pub fn new(topology: Topology) -> Self {
        Self {
            title: String::new(),
            seed: read::SEED,
            limit: read::LIMIT,
            topology,
            listeners: Vec::new(),
            play: Play::Punch(Punch::default()),
            steps: Vec::new(),
            expect: Expect::default(),
        }
    }

    /// Returns the lab, for [`World::build`](crate::virtual_time::World::build) or
    /// [`LabBuilder::topology`](crate::LabBuilder::topology).
    pub fn topology(&self) -> Topology {
        self.topology.clone()
    }

    /// Returns what it is about, in some words; may be empty.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Returns the seed that it asks for.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns how long a run may last.
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns what its hosts do.
    pub const fn play(&self) -> &Play {
        &self.play
    }

    /// Returns what happens to the lab meanwhile, in the order of time.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns what is to come of it.
    pub const fn expect(&self) -> &Expect {
        &self.expect
    }
}
