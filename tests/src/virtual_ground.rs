//! The product itself in virtual time.

pub use netns_lab_cli::{
    VirtualGround,
    serving::{COORDINATOR_PORT, rendezvous_of},
};
