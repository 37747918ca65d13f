//! The agent by the life of a session: inputs at chosen moments, and the actions they lead to.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod ending;
mod interference;
mod listening;
mod opening;
mod redialling;
mod rig;
mod verifying;
