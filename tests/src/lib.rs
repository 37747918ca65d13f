//! What the cross-crate suites of p2pconnect share.

pub mod blocks;
pub mod error_log;
pub mod kinds;
pub mod rogue;
pub mod scanner;
