//! Changes of a world that happen by themselves.

use std::{collections::BTreeMap, time::Duration};

use super::World;

/// What can happen to a place of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Change {
    /// The box forgets every connection.
    Reboot,
    /// The link above the place goes down.
    LinkDown,
    /// The link above the place comes up again.
    LinkUp,
}

/// Changes that are to come.
#[derive(Debug, Default)]
pub(super) struct Changes {
    next: u64,
    due: BTreeMap<(Duration, u64), (String, Change)>,
}

impl Changes {
    /// Returns when the next one happens, if ever.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due.keys().next().map(|(at, _)| *at)
    }
}

impl World {
    /// Lets something happen to a host or box, after the other events of that moment.
    ///
    /// Returns whether there is such a place, which for a reboot is a box.
    pub fn change_at(&mut self, at: Duration, name: &str, change: Change) -> bool {
        let is_possible = match change {
            Change::Reboot => self.models.contains_key(name),
            Change::LinkDown | Change::LinkUp => self.fabric.find(name).is_some(),
        };
        if is_possible {
            let key = (at, self.changes.next);
            self.changes.next += 1;
            self.changes.due.insert(key, (name.to_owned(), change));
        }
        is_possible
    }

    /// Makes the next change, if it is due until `limit` and before any packet.
    pub(super) fn change(&mut self, limit: Duration) -> bool {
        let Some((&(at, number), _)) = self.changes.due.first_key_value() else {
            return false;
        };
        if at > limit || self.fabric.next_due().is_some_and(|due| due <= at) {
            return false;
        }
        self.fabric.step(at);
        let Some((name, change)) = self.changes.due.remove(&(at, number)) else {
            return false;
        };
        match change {
            Change::Reboot => {
                // The box is there, and keeps its addresses.
                let _rebooted = self.reboot(&name, None);
            }
            Change::LinkDown | Change::LinkUp => {
                self.set_link_up(&name, change == Change::LinkUp);
            }
        }
        true
    }
}
