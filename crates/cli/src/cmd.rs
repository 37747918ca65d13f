//! One module for each command.

pub(crate) mod board;
#[cfg(feature = "demo")]
pub(crate) mod demo;
pub(crate) mod dial;
pub(crate) mod id;
pub(crate) mod listen;
mod prepared;
pub(crate) mod probe;
pub(crate) mod serve;
pub(crate) mod stun_server;
