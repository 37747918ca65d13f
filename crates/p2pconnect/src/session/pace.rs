use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

/// Lets others see how many connections a session begins, and have it begin no more. Clones share
/// it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How many connections over IPv4 have been begun.
    begun: watch::Sender<u32>,
    is_held: AtomicBool,
}

impl Pace {
    /// Tells whether another connection may be begun, and counts it.
    pub(super) fn begins(&self, over_ipv4: bool) -> bool {
        if self.0.is_held.load(Ordering::Relaxed) {
            return false;
        }
        let new = u32::from(over_ipv4);
        self.0.begun.send_modify(|begun| *begun += new);
        true
    }

    /// Waits until a connection over IPv4 has been begun. Cancel safe.
    pub(crate) async fn begun(&self) {
        let mut begun = self.0.begun.subscribe();
        // The sender lives as long as `self`.
        if begun.wait_for(|begun| *begun > 0).await.is_err() {
            std::future::pending().await
        }
    }

    /// Returns how many connections over IPv4 have been begun.
    pub(crate) fn count(&self) -> u32 {
        *self.0.begun.borrow()
    }

    /// Has no further connection begun. Those that are under way go on.
    pub(crate) fn hold(&self) {
        self.0.is_held.store(true, Ordering::Relaxed);
    }
}
