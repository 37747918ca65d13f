//! The punch agent in virtual time, and the matrix of all pairs.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod agent;
mod combinations;
mod grid;
