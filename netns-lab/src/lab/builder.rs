//! The description of a lab in namespaces.

use std::path::PathBuf;

use p2pconnect_nat::NatSpec;

use crate::{
    error::Error,
    fabric::Gate,
    firewall,
    topology::{BoxSpec, HostSpec, Topology},
};

/// Frames are at most this long, so this keeps them whole.
const WHOLE_FRAMES: usize = 65_535;

/// Who does the work of the boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Engine {
    /// The kernel: each box is a network namespace with netfilter rules. What most peers really sit
    /// behind, with all its quirks; not every [`NatSpec`] can be expressed.
    #[default]
    Netfilter,
    /// The [model](crate::model), between the same hosts: every [`NatSpec`], the seed decides all,
    /// and the record tells what a box did with each packet and why.
    Model,
}

impl Engine {
    /// Checks that a box of this engine can behave as the specification says; the name is for the
    /// error.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidNat`] if nothing could, [`Error::Inexpressible`] if this engine cannot.
    pub fn check(self, name: &str, nat: &NatSpec) -> Result<(), Error> {
        match self {
            Self::Netfilter => firewall::check(nat).map_err(|error| error.of_host(name.into())),
            Self::Model => nat.check().map_err(|source| Error::InvalidNat {
                name: name.into(),
                source,
            }),
        }
    }
}

/// The description of a lab; see [`Lab::builder`](super::Lab::builder).
#[derive(Debug, Clone)]
pub struct LabBuilder {
    pub(super) seed: u64,
    pub(super) topology: Topology,
    pub(super) engine: Engine,
    pub(super) capture_file: Option<PathBuf>,
    pub(super) snap_length: usize,
    pub(super) captured_at: Vec<String>,
    pub(super) record: bool,
    pub(super) log: bool,
}

impl LabBuilder {
    pub(super) fn new() -> Self {
        Self {
            seed: 0,
            topology: Topology::new(),
            engine: Engine::default(),
            capture_file: None,
            snap_length: WHOLE_FRAMES,
            captured_at: Vec::new(),
            record: true,
            log: false,
        }
    }

    /// Sets the seed of all randomness of the lab itself: loss, jitter, NAT ports.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets who does the work of the boxes; netfilter unless told otherwise.
    #[must_use]
    pub const fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Takes the whole description of the network from elsewhere, in place of what was described so
    /// far.
    #[must_use]
    pub fn topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// Adds a host.
    #[must_use]
    pub fn host(mut self, host: HostSpec) -> Self {
        self.topology = self.topology.host(host);
        self
    }

    /// Adds a box that hosts can share.
    #[must_use]
    pub fn shared_box(mut self, shared: BoxSpec) -> Self {
        self.topology = self.topology.shared_box(shared);
        self
    }

    /// Adds a gate, which holds packets back until it has seen another one.
    #[must_use]
    pub fn gate(mut self, gate: Gate) -> Self {
        self.topology = self.topology.gate(gate);
        self
    }

    /// Writes every packet at both ends of every link to a pcapng file.
    #[must_use]
    pub fn capture(mut self, file: impl Into<PathBuf>) -> Self {
        self.capture_file = Some(file.into());
        self
    }

    /// Cuts packets in the capture file to this length; 128 bytes keep all headers.
    #[must_use]
    pub const fn snap_length(mut self, bytes: usize) -> Self {
        self.snap_length = bytes;
        self
    }

    /// Writes to the capture file only what is seen at these hosts and boxes, or at the `core`;
    /// without any, at all of them.
    #[must_use]
    pub fn capture_at(mut self, places: impl IntoIterator<Item = String>) -> Self {
        self.captured_at.extend(places);
        self
    }

    /// Sets whether packets are recorded for [`Lab::capture`](super::Lab::capture); they are by
    /// default.
    #[must_use]
    pub const fn record(mut self, record: bool) -> Self {
        self.record = record;
        self
    }

    /// Sets whether [`Lab::log`](super::Lab::log) has what happened to each packet at both ends
    /// of each link; by default it has not, since that costs time and memory.
    #[must_use]
    pub const fn log(mut self, log: bool) -> Self {
        self.log = log;
        self
    }

    pub(super) fn check_netfilter(&self) -> Result<(), Error> {
        for (name, nat) in self.topology.nats() {
            Engine::Netfilter.check(name, nat)?;
        }
        Ok(())
    }
}
