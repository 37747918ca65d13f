//! The description of a lab.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Lab, assembly};
use crate::error::Error;
use crate::firewall;
use crate::isolation::is_isolated;
use crate::link::LinkSpec;
use crate::spec::NatSpec;

/// Hosts are numbered in one octet of their addresses.
const MAX_HOSTS: usize = 250;

/// More boxes in a row than anyone has met.
const MAX_LAYERS: usize = 8;

/// Frames are at most this long, so this keeps them whole.
const WHOLE_FRAMES: usize = 65_535;

/// A host, the boxes in front of it and its access link.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSpec {
    pub(crate) name: String,
    pub(crate) link: LinkSpec,
    pub(crate) nats: Vec<NatSpec>,
}

impl HostSpec {
    /// Describes a host with public addresses and a link without delay.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            link: LinkSpec::default(),
            nats: Vec::new(),
        }
    }

    /// Puts a NAT or firewall in front of the host, and of the boxes named so far.
    #[must_use]
    pub fn behind(mut self, nat: NatSpec) -> Self {
        self.nats.push(nat);
        self
    }

    /// Sets the behaviour of the access link, between the outermost box and the core.
    #[must_use]
    pub const fn link(mut self, link: LinkSpec) -> Self {
        self.link = link;
        self
    }
}

/// The description of a lab; see [`Lab::builder`].
#[derive(Debug, Clone)]
pub struct LabBuilder {
    pub(crate) seed: u64,
    pub(crate) hosts: Vec<HostSpec>,
    pub(crate) capture_file: Option<PathBuf>,
    pub(crate) snap_length: usize,
    pub(crate) record: bool,
}

impl LabBuilder {
    pub(super) const fn new() -> Self {
        Self {
            seed: 0,
            hosts: Vec::new(),
            capture_file: None,
            snap_length: WHOLE_FRAMES,
            record: true,
        }
    }

    /// Sets the seed of all randomness of the lab itself: loss, jitter, NAT ports.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds a host.
    #[must_use]
    pub fn host(mut self, host: HostSpec) -> Self {
        self.hosts.push(host);
        self
    }

    /// Writes every packet on an access link to a pcapng file.
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

    /// Sets whether packets are recorded for [`Lab::capture`]; they are by default.
    #[must_use]
    pub const fn record(mut self, record: bool) -> Self {
        self.record = record;
        self
    }

    /// Builds the lab.
    ///
    /// # Errors
    ///
    /// [`Error::NotIsolated`] outside of [`isolate`](crate::isolate) and
    /// [`test`](crate::test); an error that names the host for a description
    /// that cannot be built; otherwise what the kernel refused.
    pub fn build(self) -> Result<Lab, Error> {
        self.check()?;
        if !is_isolated() {
            return Err(Error::NotIsolated);
        }
        assembly::build(self)
    }

    fn check(&self) -> Result<(), Error> {
        if self.hosts.len() > MAX_HOSTS {
            return Err(Error::TooManyHosts {
                wanted: self.hosts.len(),
                limit: MAX_HOSTS,
            });
        }
        let mut names = BTreeSet::new();
        for host in &self.hosts {
            let name = host.name.clone();
            if !names.insert(&host.name) {
                return Err(Error::DuplicateHost { name });
            }
            if let Err(source) = host.link.check() {
                return Err(Error::InvalidLink { name, source });
            }
            if host.nats.len() > MAX_LAYERS {
                let wanted = host.nats.len();
                return Err(Error::TooManyLayers {
                    name,
                    wanted,
                    limit: MAX_LAYERS,
                });
            }
            for nat in &host.nats {
                let name = name.clone();
                firewall::check(nat).map_err(|error| error.of_host(name))?;
            }
        }
        Ok(())
    }
}
