//! Functions that take any bytes whatsoever and panic where the code under test does not keep its
//! promises.
//!
//! `fuzz/` hands them what libFuzzer makes up, a test on stable Rust what is in `fuzz/corpus`. Each
//! takes its input for what comes from outside: a peer, a coordinator, a server, a person, a file,
//! or a driver.

#![expect(
    clippy::unwrap_used,
    reason = "a failing unwrap is a finding, as a failing assertion is"
)]

mod coordination;
mod coordinator_addr;
mod input;
mod key_file;
mod nomination_answer;
mod preamble;
mod punch_agent;
mod reflexive_token;
mod scenario;
mod stun;

use std::fmt::Display;

pub use coordination::coordination;
pub use coordinator_addr::coordinator_addr;
pub use key_file::key_file;
pub use nomination_answer::nomination_answer;
pub use preamble::preamble;
pub use punch_agent::punch_agent;
pub use reflexive_token::reflexive_token;
pub use scenario::scenario;
pub use stun::stun;

/// What an input is handed to.
pub type Target = fn(&[u8]);

/// All targets by the names of their binaries and of their folders in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 9] = [
    ("coordination", coordination),
    ("coordinator_addr", coordinator_addr),
    ("key_file", key_file),
    ("nomination_answer", nomination_answer),
    ("preamble", preamble),
    ("punch_agent", punch_agent),
    ("reflexive_token", reflexive_token),
    ("scenario", scenario),
    ("stun", stun),
];

/// The longest text of an error, without what it repeats of the input: some list what could have
/// been meant.
const MAX_WHY: usize = 1000;

/// Checks that a refusal says something, and not at any length.
fn says_why(error: &impl Display, input: &[u8]) {
    let why = error.to_string();
    assert!(!why.trim().is_empty(), "a refusal without a reason");
    // A byte that is no text may be shown as three.
    assert!(why.len() <= MAX_WHY + 3 * input.len(), "{why}");
}
