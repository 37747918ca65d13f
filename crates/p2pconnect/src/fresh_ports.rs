//! Rows of local ports for attempts that need one each.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// The ports of a row: as many as one plan uses, which is two batches of 640.
const ROW: u16 = 1280;

/// Where rows may lie: above what services use by custom, and below what systems give to other
/// programs (Linux: from 32,768; IANA: from 49,152).
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// How many rows there are.
const ROWS: u16 = (RANGE.end - RANGE.start) / ROW;

/// The ports at the beginning of a row that must be free: where each stands for itself.
const CHECKED: u16 = 8;

/// Local ports that no NAT has seen lately.
///
/// Each attempt to meet a peer takes a new row, because a NAT remembers for minutes which port
/// was sent from, and to whom.
#[derive(Debug)]
pub(crate) struct FreshPorts(AtomicU16);

impl FreshPorts {
    /// Begins at a random row, as other endpoints do on this machine and behind the same NAT.
    pub(crate) fn new() -> Self {
        let first = crate::endpoint::random_fraction() * f64::from(ROWS);
        Self(AtomicU16::new(first as u16 % ROWS))
    }

    /// Returns the first port of the present row.
    pub(crate) fn row(&self) -> u16 {
        RANGE.start + self.0.load(Ordering::Relaxed) % ROWS * ROW
    }

    /// Goes on to the next row that seems to be free.
    pub(crate) fn advance(&self) {
        for _ in 0..ROWS {
            self.0.fetch_add(1, Ordering::Relaxed);
            if is_free(self.row()) {
                return;
            }
        }
        tracing::debug!("no row of local ports is free");
    }
}

fn is_free(row: u16) -> bool {
    (row..row + CHECKED).all(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_follow_each_other_within_the_range() {
        let ports = FreshPorts::new();
        let mut rows = BTreeSet::new();
        for _ in 0..ROWS {
            let row = ports.row();
            assert!(row >= RANGE.start && row + ROW <= RANGE.end);
            rows.insert(row);
            ports.advance();
        }
        // One or the other may not be free here.
        assert!(rows.len() > usize::from(ROWS) / 2, "{rows:?}");
    }
}
