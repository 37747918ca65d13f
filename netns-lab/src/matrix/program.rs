//! Programs that take the punch agent's place.

use std::error::Error;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::{GroundError, Options};
use crate::puncher::{NamespacesError, Path, PunchOutcome};
use crate::{HostSpec, Lab, LabBuilder, LinkSpec, NatSpec};

/// The server's second address: what a STUN server needs to show all of how a NAT behaves.
const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);

/// What kept a program from trying at all.
pub type ProgramError = Box<dyn Error + Send + Sync>;

/// A hole puncher of whatever kind, to be run through the matrix in namespaces
/// in place of the punch agent.
#[derive(Clone, Copy)]
pub struct Program {
    /// What the report calls it.
    pub name: &'static str,
    /// The least time that a path takes, between a dialler and a listener behind
    /// these boxes, from the dial to what the program calls a connection.
    pub bound: fn(&Path, [&[NatSpec]; 2]) -> Duration,
    /// How many runs one lab between these boxes is good for; at least one. A
    /// small range of ports may be used up after the first.
    pub runs_in_a_lab: fn([&[NatSpec]; 2]) -> u32,
    /// Lets the host `dialler` of a lab connect to the host `listener` so many
    /// times, one after the other, and returns what came of each.
    ///
    /// Both are behind their boxes. The host `server` has a public address, and
    /// [`Program::second_address`] as well. That a dial fails is an outcome; an
    /// error ends the matrix.
    pub punch: fn(&Lab, u32) -> Result<Vec<PunchOutcome>, ProgramError>,
}

impl Program {
    /// Returns the second public address of the host `server`.
    pub const fn second_address() -> Ipv4Addr {
        SECOND
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Program").field(&self.name).finish()
    }
}

/// Runs a program so many times in a lab of its own.
pub(super) fn punch(
    program: &Program,
    runs: u32,
    options: &Options,
    chains: [&[NatSpec]; 2],
    seed: u64,
    capture: Option<PathBuf>,
) -> Result<Vec<PunchOutcome>, GroundError> {
    let peer = |name, chain: &[NatSpec], link: LinkSpec| {
        let host = HostSpec::new(name).link(link);
        chain.iter().fold(host, |host, spec| host.behind(*spec))
    };
    let Path { peer: link, server } = options.path;
    let server = HostSpec::new("server").link(server).second_ipv4(SECOND);
    let lab = Lab::builder()
        .seed(seed)
        .engine(options.engine)
        .record(false)
        .host(peer("dialler", chains[0], link))
        .host(peer("listener", chains[1], link))
        .host(server);
    let lab = capture.into_iter().fold(lab, LabBuilder::capture);
    let lab = lab.build().map_err(NamespacesError::from)?;
    let outcomes = (program.punch)(&lab, runs).map_err(GroundError::Program)?;
    lab.close().map_err(NamespacesError::from)?;
    if outcomes.is_empty() {
        return Err(GroundError::Program(
            "the program has told no outcome".into(),
        ));
    }
    Ok(outcomes)
}
