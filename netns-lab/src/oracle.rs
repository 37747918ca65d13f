//! Whether two hosts can open a TCP connection to each other, from the behaviours of their boxes
//! alone; and the table of what that comes to for the presets.
//!
//! The oracle itself is a crate of its own, which needs no lab. Tests here compare its answers with
//! exhaustive runs in [virtual time](crate::virtual_time).

mod table;

pub use p2pconnect_nat::oracle::*;
pub use table::table;
