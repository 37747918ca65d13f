//! What an operator changes while a coordinator serves, and sees of it.

use std::{sync::Arc, time::Duration};

use super::{Drain, ServiceLimits, shared::Shared};
use crate::{Limits, Members, metrics::Family};

/// A way to change and to measure what a coordinator does while it serves. Clones are for the same
/// coordinator, and none keeps it going.
#[derive(Debug, Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

impl Control {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Sets how much is done for whom from now on. What is above a limit already may stay. The idle
    /// timeout stays as it was.
    pub fn set_limits(&self, limits: Limits, service: ServiceLimits) {
        self.shared.set_limits(limits, service);
    }

    /// Returns all metrics as they are now.
    pub(crate) fn measure(&self) -> Vec<Family> {
        let mut families = self.shared.counts.measure(self.shared.present());
        families.extend(self.shared.measure_nodes());
        families
    }

    /// Returns after what time the other coordinators may be reached again, if there are any and
    /// they cannot be now.
    pub(crate) fn others_away(&self) -> Option<Duration> {
        self.shared.nodes.as_ref()?.away()
    }

    /// Serves these alone from now on, and closes the connections of all others. Returns how many
    /// these are.
    pub fn set_members(&self, members: Members) -> usize {
        self.shared.set_members(members)
    }

    /// Lets all clients go, to other places or to come back later, and returns when there is none
    /// any more or the time is over. From its first poll on this is not to be undone: the
    /// coordinator is to end then.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is done, no more clients are told.
    pub async fn drain(&self, drain: Drain) {
        self.shared.drain(drain).await;
    }
}
