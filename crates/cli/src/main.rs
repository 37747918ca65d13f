//! The `p2pconnect` command.
fn main() {}
