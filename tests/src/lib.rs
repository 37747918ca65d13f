//! What the suites and benches of p2pconnect share.
//!
//! In labs of network namespaces:
//!
//! - `net`: a server, and two peers behind what a test puts there
//! - `router`: a home behind a router of Debian's own programs
//! - `process`: programs on hosts, and what they say
//! - `intermediary`: proxies of Debian between a peer and its coordinator
//! - `settled`: endpoints of the library that know their NAT
//! - `bench`: what benches run in
//! - `kinds`, `blocks`: the NATs that are paired
//!
//! On loopback:
//!
//! - `nats`: servers of NATS
//! - `serving`: `p2pconnect serve` as a process
//! - `error_log`: an ERROR in the log fails a test
//!
//! In virtual time:
//!
//! - `virtual_ground`: the product on the hosts of a world
//!
//! Anywhere:
//!
//! - `program`: the command under test
//! - `rogue`, `scanner`, `forger`: whoever means harm

#![expect(
    clippy::unwrap_used,
    reason = "only tests use it, and a failing unwrap is a failing test"
)]

pub mod bench;
pub mod blocks;
pub mod error_log;
pub mod forger;
pub mod intermediary;
pub mod kinds;
mod nat_pmp;
pub mod nats;
pub mod net;
pub mod process;
pub mod program;
pub mod rogue;
pub mod router;
pub mod scanner;
pub mod serving;
pub mod settled;
pub mod tayga;
pub mod virtual_ground;
