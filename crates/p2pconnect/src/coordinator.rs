//! This side of the coordination protocol: the connections to coordinators, and what is said over
//! them.

pub(crate) mod choice;
pub(crate) mod dialer;
pub(crate) mod flights;
pub(crate) mod lines;
pub(crate) mod link;
pub(crate) mod offers;
pub(crate) mod probe;
mod puzzles;
pub(crate) mod reconnecting;
pub(crate) mod requests;
pub(crate) mod servers;
pub(crate) mod topics;
pub(crate) mod withdrawal;
