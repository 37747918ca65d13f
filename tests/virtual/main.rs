//! The product in virtual time: what is shipped runs, and a seed replays it.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod behaviour;
mod board;
mod coordinator;
mod dials;
mod grease;
mod later;
mod obedience;
mod seeds;
mod several;
