//! How much of the board is taken, by network and in all.

use std::{collections::BTreeMap, net::IpAddr};

/// What takes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Entry,
    Watch,
    /// What a watcher has not been told yet.
    Change,
}

/// How many there are of each kind.
type Counts = [usize; 3];

/// Counts what takes room.
#[derive(Debug, Default)]
pub(super) struct Used {
    networks: BTreeMap<IpAddr, Counts>,
    all: Counts,
}

impl Used {
    pub(super) const fn all(&self) -> (usize, usize) {
        let [entries, watches, _] = self.all;
        (entries, watches)
    }

    pub(super) const fn of_all(&self, kind: Kind) -> usize {
        self.all[kind as usize]
    }

    pub(super) fn of_network(&self, network: IpAddr, kind: Kind) -> usize {
        let counts = self.networks.get(&network);
        counts.map_or(0, |it| it[kind as usize])
    }

    pub(super) fn add(&mut self, network: IpAddr, kind: Kind) {
        self.replace(network, kind, 0, 1);
    }

    pub(super) fn remove(&mut self, network: IpAddr, kind: Kind) {
        self.replace(network, kind, 1, 0);
    }

    /// Counts so many in the place of others.
    pub(super) fn replace(&mut self, network: IpAddr, kind: Kind, before: usize, after: usize) {
        let counts = self.networks.entry(network).or_default();
        for count in [&mut self.all[kind as usize], &mut counts[kind as usize]] {
            *count = *count + after - before;
        }
        if counts.iter().all(|it| *it == 0) {
            self.networks.remove(&network);
        }
    }
}
