//! Scenario files: the corpus does what it says, the reader says what is wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;
mod errors;
mod namespaces;
mod reference;

use netns_lab::scenario::{self, Ground, Scenario, ScenarioRun};
use netns_lab_cli::P2pconnect;

/// Runs a scenario in virtual time, with p2pconnect as what dials.
fn run(scenario: &Scenario, seed: u64) -> ScenarioRun {
    scenario::run(scenario, Ground::VirtualTime, seed, Some(&P2pconnect)).unwrap()
}
