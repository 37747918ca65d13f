//! The NAT model as a middlebox.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Middlebox, Outgoing, Side};
use crate::{model::NatModel, record::Remark};

impl Middlebox for NatModel {
    fn handle(
        &mut self,
        now: Duration,
        side: Side,
        packet: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Remark {
        let verdict = self.handle_packet(now, side, packet);
        take_outputs(self, out);
        verdict.into()
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Duration, out: &mut Vec<Outgoing>) -> Remark {
        Self::handle_timeout(self, now);
        take_outputs(self, out);
        "sent the answer that was due".into()
    }
}

fn take_outputs(model: &mut NatModel, out: &mut Vec<Outgoing>) {
    out.extend(std::iter::from_fn(|| model.poll_output()));
}

/// A NAT model that its owner can look at, and restart, while it works in a fabric.
#[derive(Debug, Clone)]
pub struct SharedModel {
    model: Arc<Mutex<NatModel>>,
}

impl SharedModel {
    /// Makes a model that can be put into a fabric and kept.
    pub(crate) fn new(model: NatModel) -> Self {
        Self {
            model: Arc::new(Mutex::new(model)),
        }
    }

    /// Looks at the model, or changes it, between two packets.
    pub fn with<T>(&self, work: impl FnOnce(&mut NatModel) -> T) -> T {
        // A panic elsewhere leaves the tables whole: nothing in them panics.
        work(&mut self.model.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Middlebox for SharedModel {
    fn handle(
        &mut self,
        now: Duration,
        side: Side,
        packet: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Remark {
        self.with(|model| model.handle(now, side, packet, out))
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.with(|model| model.next_timeout())
    }

    fn handle_timeout(&mut self, now: Duration, out: &mut Vec<Outgoing>) -> Remark {
        self.with(|model| Middlebox::handle_timeout(model, now, out))
    }
}
