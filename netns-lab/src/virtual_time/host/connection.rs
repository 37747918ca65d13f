//! A TCP connection of a host.

use std::time::Duration;

use crate::virtual_time::tcp::Tcb;

/// Who has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeper {
    /// The listener with this number, while it is half-open.
    Listener(u64),
    /// A listener's queue.
    Queue,
    /// A program of the host.
    Program,
}

/// A connection, and what its host keeps about it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) tcb: Tcb,
    pub(super) keeper: Keeper,
    /// Whether its program has closed it.
    pub(super) released: bool,
    /// When the host next has to look at it; also in the host's timer table.
    pub(super) timer: Option<Duration>,
}

impl Connection {
    pub(super) const fn new(tcb: Tcb, keeper: Keeper) -> Self {
        Self {
            tcb,
            keeper,
            released: false,
            timer: None,
        }
    }
}
