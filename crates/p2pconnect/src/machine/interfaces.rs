//! This machine's interfaces, as the system lists them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_stun::shortage;

/// How old a list may be for what belongs to the same dial: a dialler is introduced a round trip after it has told
/// its addresses. To list the interfaces takes two dozen calls of the system.
const RECENT: Duration = Duration::from_secs(1);

/// The addresses of this machine, each with its interface, and when they were listed.
#[derive(Debug, Clone)]
pub(crate) struct Interfaces {
    addresses: Arc<[if_addrs::Interface]>,
    at: Instant,
}

impl Interfaces {
    /// Lists those of this moment. Where the system does not tell them, there are none.
    pub(crate) fn now() -> Self {
        let addresses = if_addrs::get_if_addrs().unwrap_or_else(|error| {
            shortage::note(&error);
            tracing::warn!(%error, "this machine's addresses cannot be listed");
            Vec::new()
        });
        Self {
            addresses: addresses.into(),
            at: Instant::now(),
        }
    }

    /// Returns these, or those of this moment if these are not recent.
    pub(crate) fn up_to_date(&self) -> Self {
        if self.at.elapsed() < RECENT {
            self.clone()
        } else {
            Self::now()
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &if_addrs::Interface> {
        self.addresses.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_list_is_made_anew() {
        let listed = Interfaces::now();
        let same = listed.up_to_date();
        assert!(Arc::ptr_eq(&listed.addresses, &same.addresses));
        let Some(at) = listed.at.checked_sub(RECENT) else {
            return;
        };
        let old = Interfaces { at, ..listed };
        assert!(!Arc::ptr_eq(&old.addresses, &old.up_to_date().addresses));
    }
}
