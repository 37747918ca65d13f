//! What stands between hosts and the core.

mod nat_model;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

pub use nat_model::SharedModel;

/// A side of a middlebox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where its hosts are.
    Inside,
    /// Where the core is.
    Outside,
}

impl Side {
    /// Returns the other side.
    pub(crate) const fn opposite(self) -> Self {
        match self {
            Self::Inside => Self::Outside,
            Self::Outside => Self::Inside,
        }
    }
}

/// A packet that a middlebox sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The side it leaves by.
    pub side: Side,
    /// The IP packet.
    pub packet: Vec<u8>,
}

/// A NAT, a firewall, or anything else that packets pass.
///
/// It has no clock and no randomness but its own seed: the same calls must
/// have the same effects. Times count from the start of the world.
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
    ) -> Cow<'static, str>;

    /// Returns when [`Middlebox::handle_timeout`] wants to be called, if ever.
    fn next_timeout(&self) -> Option<Duration>;

    /// Does all that is due, so that the next timeout is later than `now`, and
    /// returns the reason for what it sends.
    fn handle_timeout(&mut self, now: Duration, out: &mut Vec<Outgoing>) -> Cow<'static, str>;
}
