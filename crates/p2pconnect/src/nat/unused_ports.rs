//! Rows of local ports for attempts that need one each.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

use p2pconnect_proto::NatReport;
use p2pconnect_punch::{UNUSED_PORTS, ports_of_bets};

/// The most ports that a round uses of a row: all of the largest range that is filled.
const LONGEST: u16 = 3200;

/// The ports that are used of a row where ports are foretold, with some to spare.
pub(crate) const FORETOLD: u16 = 16;

/// Where rows may lie.
const RANGE: std::ops::Range<u16> = UNUSED_PORTS;

/// How many places there are for a row to begin at.
const PLACES: u16 = (RANGE.end - RANGE.start - LONGEST) / FORETOLD;

/// The ports at the beginning of a row that must be free: where each stands for itself.
const CHECKED: u16 = 8;

/// Local ports that no NAT has seen lately.
///
/// Each attempt to meet a peer takes a new row, because a NAT remembers for minutes which port
/// was sent from, and to whom.
#[derive(Debug)]
pub(crate) struct UnusedPorts(AtomicU16);

impl UnusedPorts {
    /// Begins at a random place, as other endpoints do on this machine and behind the same NAT.
    pub(crate) fn new() -> Self {
        let place = crate::machine::randomness::random_fraction() * f64::from(PLACES);
        Self(AtomicU16::new(place as u16 % PLACES))
    }

    /// Returns the first port of the present row.
    pub(crate) fn row(&self) -> u16 {
        RANGE.start + self.0.load(Ordering::Relaxed) % PLACES * FORETOLD
    }

    /// Goes on to the next row that seems to be free, behind what an attempt between these NATs
    /// uses of the present one.
    pub(crate) fn advance(&self, nats: [&NatReport; 2]) {
        let bets = nats.map(ports_of_bets).into_iter().max();
        self.advance_by(bets.unwrap_or_default().max(FORETOLD));
        for _ in 0..PLACES {
            if is_free(self.row()) {
                return;
            }
            self.advance_by(FORETOLD);
        }
        tracing::debug!("no row of local ports is free");
    }

    fn advance_by(&self, ports: u16) {
        self.0
            .fetch_add(ports.div_ceil(FORETOLD), Ordering::Relaxed);
    }
}

fn is_free(row: u16) -> bool {
    (row..row + CHECKED).all(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use p2pconnect_proto::{NatMapping, PortAssignment};

    use super::*;

    #[test]
    fn rows_follow_each_other_within_the_range() {
        let ports = UnusedPorts::new();
        let (foretold, random) = (
            NatReport::default(),
            PortAssignment::Random { first: 1, last: 9 },
        );
        let bet = NatReport {
            mapping: Some(NatMapping::AddressAndPortDependent),
            ports: Some(random),
            ..foretold
        };
        let mut rows = BTreeSet::new();
        for _ in 0..PLACES {
            let row = ports.row();
            assert!(row >= RANGE.start && row + LONGEST <= RANGE.end);
            rows.insert(row);
            ports.advance([&foretold, &foretold]);
        }
        // One or the other may not be free here.
        assert!(rows.len() > usize::from(PLACES) / 2, "{rows:?}");

        let ports = UnusedPorts(AtomicU16::new(0));
        ports.advance([&foretold, &bet]);
        assert!(ports.row() >= RANGE.start + 1280, "{}", ports.row());
    }
}
