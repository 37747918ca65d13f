//! The oracle against exhaustive runs in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agreement;
mod luck;
mod predicting;
mod puncher;
mod stage;
mod timing;
mod verdicts;
