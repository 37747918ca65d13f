//! Building a lab and working with its hosts.

mod assembly;
mod builder;
mod core;
mod host;
mod quiet;
mod readiness;
mod reaper;

use std::{collections::BTreeMap, sync::Arc};

pub use builder::{Engine as BoxEngine, LabBuilder};
pub use host::{Host, Nat};

use crate::{
    capture::Capture,
    engine::Engine,
    error::Error,
    fabric::NodeId,
    record::{EventLog, SharedLog},
};
use reaper::Reaper;

/// A network of hosts, NATs and links; dropping it removes everything.
///
/// Its namespaces belong to this process alone, so any number of labs can exist at once, in one
/// process and in several.
#[derive(Debug)]
pub struct Lab {
    hosts: BTreeMap<String, Host>,
    nats: BTreeMap<Arc<str>, Nat>,
    capture: Capture,
    log: SharedLog,
    places: BTreeMap<Arc<str>, NodeId>,
    // Fields are dropped in this order: programs first, then what carries their packets.
    reaper: Reaper,
    engine: Engine,
}

impl Lab {
    /// Starts the description of a lab.
    pub fn builder() -> LabBuilder {
        LabBuilder::new()
    }

    /// Returns the host with this name.
    ///
    /// # Panics
    ///
    /// Panics if the lab was built without such a host.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts
            .get(name)
            .unwrap_or_else(|| panic!("the lab has no host named {name:?}"))
    }

    /// Returns all hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// Returns a box in front of a host; layer 0 is the innermost.
    ///
    /// # Panics
    ///
    /// Panics if the lab was built without such a host or box.
    pub fn nat(&self, host: &str, layer: usize) -> &Nat {
        let nats = self.host(host).nats();
        nats.get(layer)
            .unwrap_or_else(|| panic!("host {host:?} has no box at layer {layer}"))
    }

    /// Returns the box with this name: that of a shared box, or `<host>.nat`,
    /// `<host>.nat2` and so on.
    ///
    /// # Panics
    ///
    /// Panics if the lab was built without such a box.
    pub fn nat_named(&self, name: &str) -> &Nat {
        self.nats
            .get(name)
            .unwrap_or_else(|| panic!("the lab has no box named {name:?}"))
    }

    /// Returns all boxes, by name.
    pub fn nats(&self) -> impl Iterator<Item = &Nat> {
        self.nats.values()
    }

    /// Takes the link above a host or box up or down, at once; what is on it already still arrives.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the lab's own thread has ended.
    ///
    /// # Panics
    ///
    /// Panics if the lab was built without such a host or box.
    pub fn set_link_up(&self, name: &str, up: bool) -> Result<(), Error> {
        let node = self.places.get(name);
        let node = node.unwrap_or_else(|| panic!("the lab has no host or box named {name:?}"));
        self.engine
            .set_link_up(*node, up)
            .map_err(|source| Error::System {
                action: format!("switch the link of {name}"),
                source,
            })
    }

    /// Returns what happened to each packet at both ends of each link so far, if
    /// [`LabBuilder::log`] asked for it; the first 100,000 events.
    pub fn log(&self) -> EventLog {
        self.log.read()
    }

    /// Returns the packets that crossed the access links so far.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Takes the lab down and completes the capture file.
    ///
    /// Dropping the lab does the same, but cannot report an error.
    ///
    /// # Errors
    ///
    /// [`Error::Capture`] if the capture file could not be written to its end.
    pub fn close(mut self) -> Result<(), Error> {
        self.reaper.kill_all();
        self.engine
            .stop()
            .map_err(|source| Error::Capture { source })
    }
}
