//! This side of the coordination protocol: the connection to the coordinator, and what is said over
//! it.

pub(crate) mod dialer;
pub(crate) mod flights;
pub(crate) mod link;
mod puzzles;
pub(crate) mod reconnecting;
pub(crate) mod requests;
pub(crate) mod servers;
pub(crate) mod topics;
pub(crate) mod withdrawal;
