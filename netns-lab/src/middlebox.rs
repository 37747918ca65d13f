//! What stands between hosts and the core.

mod nat_model;

use std::{fmt, time::Duration};

use crate::record::Remark;

pub use crate::model::{Output as Outgoing, Side};
pub use nat_model::SharedModel;

/// A NAT, a firewall, or anything else that packets pass.
///
/// It has no clock and no randomness but its own seed: the same calls must have the same effects.
/// Times count from the start of the world.
pub trait Middlebox: fmt::Debug + Send {
    /// Takes an IP packet that came in by `side`, adds to `out` what leaves in
    /// consequence, and returns for the record what it did and why.
    ///
    /// Packets leave at once; those of a box that delays come out of
    /// [`Middlebox::handle_timeout`].
    fn handle(
        &mut self,
        now: Duration,
        side: Side,
        packet: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Remark;

    /// Returns when [`Middlebox::handle_timeout`] wants to be called, if ever.
    fn next_timeout(&self) -> Option<Duration>;

    /// Does all that is due, so that the next timeout is later than `now`, and returns the reason
    /// for what it sends.
    fn handle_timeout(&mut self, now: Duration, out: &mut Vec<Outgoing>) -> Remark;
}
