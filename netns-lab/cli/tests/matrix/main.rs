//! p2pconnect between boxes of all kinds on both grounds, and the matrix of all pairs.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod combinations;
mod grid;
mod namespaces;
mod pairs;

use netns_lab::{
    EventLog, NatSpec, Topology,
    contender::{Contender as _, Path, Punch, PunchOutcome},
    virtual_time::World,
};
use netns_lab_cli::P2pconnect;

fn hosts() -> Punch {
    Punch::between("dialler", "listener")
}

/// Dials in virtual time.
fn dial(chains: [&[NatSpec]; 2], path: Path, seed: u64) -> (PunchOutcome, EventLog) {
    let topology: Topology = path.topology(&hosts(), chains);
    let world = World::build(&topology, seed).unwrap();
    P2pconnect.dial_in_world(world, &hosts(), seed).unwrap()
}
