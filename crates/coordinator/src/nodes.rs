//! Several coordinators that serve the same peers, each of which is a node.
//!
//! A [`Bus`] carries what they say to each other. Without one a coordinator is alone, and all that
//! it knows is in its memory.

mod bus;
mod delays;
mod held;
mod memory;

use std::sync::Arc;

use p2pconnect_proto::nodes::NodeKey;

pub use bus::{Bus, BusFuture, Incoming, Listening, Unanswered};
pub use memory::MemoryBus;

pub(crate) use delays::Delays;
pub(crate) use held::{Change, Held, OtherRegistration, Rival};

/// How a coordinator belongs to others.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// What carries messages between the nodes.
    pub bus: Arc<dyn Bus>,
    /// The secret that they share.
    pub key: NodeKey,
}
