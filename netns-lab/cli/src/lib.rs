//! p2pconnect in a lab: what the command `netns-lab` dials with, and the suites of p2pconnect as
//! well.
//!
//! - [`P2pconnect`]: the contender of matrices and scenarios, on both grounds
//! - [`VirtualGround`]: coordinator, STUN servers and endpoints in virtual time
//! - [`settled()`]: endpoints that know their NAT

mod contender;
pub mod serving;
mod settled;
mod virtual_ground;

pub use contender::P2pconnect;
pub use settled::{block_on, settled};
pub use virtual_ground::VirtualGround;
