//! This host's interfaces, as it lists them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_host::{Host, Interface, clock};

/// How old a list may be for what belongs to the same dial: a dialler is introduced a round trip
/// after it has told its addresses. To list the interfaces takes two dozen calls of the system.
const RECENT: Duration = Duration::from_secs(1);

/// The addresses of this host, each with its interface, and when they were listed.
#[derive(Debug, Clone)]
pub(crate) struct Interfaces {
    host: Host,
    addresses: Arc<[Interface]>,
    at: Instant,
}

impl Interfaces {
    /// Lists those of this moment. Where the system does not tell them, there are none.
    pub(crate) fn of(host: &Host) -> Self {
        Self {
            host: host.clone(),
            addresses: host.interfaces().into(),
            at: clock::now(),
        }
    }

    /// Returns these, or those of this moment if these are not recent.
    pub(crate) fn up_to_date(&self) -> Self {
        if clock::since(self.at) < RECENT {
            self.clone()
        } else {
            Self::of(&self.host)
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.addresses.iter()
    }

    /// Returns whose they are.
    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_list_is_made_anew() {
        let listed = Interfaces::of(&Host::default());
        let same = listed.up_to_date();
        assert!(Arc::ptr_eq(&listed.addresses, &same.addresses));
        let Some(at) = listed.at.checked_sub(RECENT) else {
            return;
        };
        let old = Interfaces { at, ..listed };
        assert!(!Arc::ptr_eq(&old.addresses, &old.up_to_date().addresses));
    }
}
