//! Who dials: a program that connects two hosts behind boxes, and is to be tried.
//!
//! A [matrix](crate::matrix) lets a [`Contender`] dial between boxes of all kinds, a
//! [scenario](crate::scenario) in a network of its own. The lab itself has none: its command dials
//! with p2pconnect.

use std::{error::Error, net::Ipv4Addr, time::Duration};

use p2pconnect_nat::NatSpec;

use crate::{
    Lab,
    link::LinkSpec,
    record::EventLog,
    topology::{HostSpec, Topology},
    virtual_time::World,
};

/// What kept a contender from dialling at all.
pub type ContenderError = Box<dyn Error + Send + Sync>;

/// A program that connects two hosts, a hole puncher most likely.
///
/// It runs on one ground at least. Host names are those of a [`Punch`]. The host called its server
/// has a public address, and in a matrix a second one ([`Path::topology`]).
pub trait Contender: Sync {
    /// Returns what reports call it.
    fn name(&self) -> &str;

    /// Returns the least time that a path takes, between a dialler and a listener behind
    /// these boxes, from the dial to what the contender calls a connection.
    fn bound(&self, path: &Path, chains: [&[NatSpec]; 2]) -> Duration;

    /// Returns how many dials one lab of namespaces between these boxes is good for; at
    /// least one. A small range of ports may be used up after the first.
    fn dials_in_a_lab(&self, _chains: [&[NatSpec]; 2]) -> u32 {
        1
    }

    /// Dials once in virtual time, and returns what came of it with the log of the world.
    ///
    /// The same world, hosts and seed should have the same outcome.
    ///
    /// # Errors
    ///
    /// The contender does not run in virtual time, or its programs cannot be started. That
    /// a dial fails is no error.
    fn dial_in_world(
        &self,
        _world: World,
        _hosts: &Punch,
        _seed: u64,
    ) -> Result<(PunchOutcome, EventLog), ContenderError> {
        Err(format!("{} does not run in virtual time", self.name()).into())
    }

    /// Dials so many times in a lab of namespaces, one dial after the other, and returns what came
    /// of each.
    ///
    /// # Errors
    ///
    /// The contender does not run in namespaces, or its programs cannot be started. That a
    /// dial fails is no error.
    fn dial_in_lab(
        &self,
        _lab: &Lab,
        _hosts: &Punch,
        _dials: u32,
    ) -> Result<Vec<PunchOutcome>, ContenderError> {
        Err(format!("{} does not run in namespaces", self.name()).into())
    }
}

/// The hosts of a dial, by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Punch {
    /// The host that dials.
    pub dialler: String,
    /// The host that is dialled.
    pub listener: String,
    /// The host that helps both.
    pub server: String,
}

/// What came of a dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PunchOutcome {
    /// The connection, if there is one that works.
    pub established: Option<Established>,
    /// Why there is none, in the contender's words.
    pub failure: Option<String>,
    /// The time from the start of the dial until it was given up, if it failed.
    pub failed_after: Option<Duration>,
}

/// A connection that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// In what way it came about, seen from the dialler.
    pub how: String,
    /// The time from the start of the dial until it could be used.
    pub after: Duration,
}

/// The links between peers and server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// The access link of each peer.
    pub peer: LinkSpec,
    /// The access link of the server.
    pub server: LinkSpec,
}

impl Punch {
    /// Returns a dial between two hosts, with the help of host `server`.
    pub fn between(dialler: &str, listener: &str) -> Self {
        Self {
            dialler: dialler.into(),
            listener: listener.into(),
            server: "server".into(),
        }
    }

    /// Returns the names of all hosts that take part.
    pub(crate) const fn hosts(&self) -> [&String; 3] {
        [&self.dialler, &self.listener, &self.server]
    }

    /// Returns a host that takes part and is none of these.
    pub(crate) fn lacking(&self, known: &[impl AsRef<str>]) -> Option<&String> {
        let is_known = |name: &str| known.iter().any(|it| it.as_ref() == name);
        self.hosts().into_iter().find(|name| !is_known(name))
    }
}

impl Default for Punch {
    /// Returns a dial from host `a` to host `b`.
    fn default() -> Self {
        Self::between("a", "b")
    }
}

impl Default for Path {
    /// Returns a path with 80 ms between the peers and 42 ms to the server, there and back.
    fn default() -> Self {
        Self {
            peer: LinkSpec::delay(Duration::from_millis(20)),
            server: LinkSpec::delay(Duration::from_millis(1)),
        }
    }
}

impl Path {
    /// The server's second address: what a STUN server needs to show all of how a NAT
    /// behaves (RFC 5780).
    const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);

    /// Returns the round-trip time between a peer and the server.
    pub fn to_server(&self) -> Duration {
        2 * (self.peer.one_way() + self.server.one_way())
    }

    /// Returns the round-trip time between the peers.
    pub const fn between_peers(&self) -> Duration {
        self.peer.one_way().saturating_mul(4)
    }

    /// Returns a network of these links: the dialler and the listener behind their boxes, the
    /// innermost first, and a server with two public addresses.
    pub fn topology(&self, hosts: &Punch, [dialler, listener]: [&[NatSpec]; 2]) -> Topology {
        let peer = |name: &str, chain| HostSpec::new(name).behind_all(chain).link(self.peer);
        let server = HostSpec::new(&hosts.server).link(self.server);
        Topology::new()
            .host(peer(&hosts.dialler, dialler))
            .host(peer(&hosts.listener, listener))
            .host(server.second_ipv4(Self::SECOND))
    }
}
