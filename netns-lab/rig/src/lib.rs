//! What the suites of `netns-lab` share with those of programs that are tested in it.
//!
//! - `documents`: the commands that documents tell their readers to type
//! - `killing`: programs that are killed, and what they leave behind
//! - `openssh`: OpenSSH's server and client on hosts of a lab
//! - `packets`: IP packets, built, read and checked without any code of the lab

#![expect(
    clippy::unwrap_used,
    reason = "only tests use it, and a failing unwrap is a failing test"
)]

pub mod documents;
pub mod killing;
pub mod openssh;
pub mod packets;
