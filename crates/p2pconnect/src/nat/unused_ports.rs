//! Blocks of unused local ports, for attempts that need a port each.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU16, Ordering},
};

use p2pconnect_host::{Host, Sharing};
use p2pconnect_proto::NatReport;
use p2pconnect_punch::{UNUSED_PORTS, guessed_ports};

/// The most ports of a block that a round uses: all of the largest range that is filled.
const LONGEST: u16 = 3200;

/// The ports of a block that a round uses where ports are predicted, with some to spare.
pub(crate) const PREDICTED_BLOCK: u16 = 16;

/// The ports that blocks are taken from.
const RANGE: std::ops::Range<u16> = UNUSED_PORTS;

/// The number of ports that a block may begin at.
const BLOCK_STARTS: u16 = (RANGE.end - RANGE.start - LONGEST) / PREDICTED_BLOCK;

/// The first ports of a block, which must be free: where ports are predicted, each of them stands
/// for itself.
const CHECKED: u16 = 8;

/// Local ports that no NAT has seen lately.
///
/// Each attempt to meet a peer takes a new block, because a NAT remembers for minutes which port
/// was sent from, and to whom.
#[derive(Debug)]
pub(crate) struct UnusedPorts {
    host: Host,
    next: AtomicU16,
}

impl UnusedPorts {
    /// Begins at a random block, as other endpoints do on this machine and behind the same NAT.
    pub(crate) fn new(host: Host) -> Self {
        let start = host.random_fraction() * f64::from(BLOCK_STARTS);
        Self {
            next: AtomicU16::new(start as u16 % BLOCK_STARTS),
            host,
        }
    }

    /// Returns the first port of the present block.
    pub(crate) fn block(&self) -> u16 {
        RANGE.start + self.next.load(Ordering::Relaxed) % BLOCK_STARTS * PREDICTED_BLOCK
    }

    /// Goes on to the next block that seems to be free, behind what an attempt between these NATs
    /// uses of the present one.
    pub(crate) fn advance(&self, nats: [&NatReport; 2]) {
        let guessed = nats.map(guessed_ports).into_iter().max();
        self.advance_by(guessed.unwrap_or_default().max(PREDICTED_BLOCK));
        for _ in 0..BLOCK_STARTS {
            if self.is_free(self.block()) {
                return;
            }
            self.advance_by(PREDICTED_BLOCK);
        }
        tracing::debug!("no block of local ports is free");
    }

    fn advance_by(&self, ports: u16) {
        self.next
            .fetch_add(ports.div_ceil(PREDICTED_BLOCK), Ordering::Relaxed);
    }

    fn is_free(&self, block: u16) -> bool {
        (block..block + CHECKED).all(|port| {
            let any = (Ipv4Addr::UNSPECIFIED, port).into();
            let socket = self.host.tcp_socket(any, Sharing::Exclusive);
            socket.and_then(|it| it.listen(1)).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use p2pconnect_proto::{NatMapping, PortAssignment};

    use super::*;

    #[tokio::test]
    async fn blocks_follow_each_other_within_the_range() {
        let ports = UnusedPorts::new(Host::default());
        let (predicted, random) = (
            NatReport::default(),
            PortAssignment::Random { first: 1, last: 9 },
        );
        let guessing = NatReport {
            mapping: Some(NatMapping::AddressAndPortDependent),
            ports: Some(random),
            ..predicted
        };
        let mut blocks = BTreeSet::new();
        for _ in 0..BLOCK_STARTS {
            let block = ports.block();
            assert!(block >= RANGE.start && block + LONGEST <= RANGE.end);
            blocks.insert(block);
            ports.advance([&predicted, &predicted]);
        }
        // One or the other may not be free here.
        assert!(blocks.len() > usize::from(BLOCK_STARTS) / 2, "{blocks:?}");

        let ports = UnusedPorts {
            host: Host::default(),
            next: AtomicU16::new(0),
        };
        ports.advance([&predicted, &guessing]);
        assert!(ports.block() >= RANGE.start + 1280, "{}", ports.block());
    }
}
