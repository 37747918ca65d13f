//! The bytes of every message: properties that hold for all, and the vectors of `PROTOCOL.md`.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod golden;
mod properties;
mod strategies;
