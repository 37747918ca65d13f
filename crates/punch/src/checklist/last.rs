//! The last resort for NATs and hosts that refuse simultaneous open: one side only listens.

use std::{collections::BTreeSet, net::IpAddr};

use p2pconnect_proto::{NatFiltering, NatReport, Role};

use crate::{
    CandidatePair, Introduced,
    pair::{CheckState, DialledBy, Ending, Pair},
    plan::{Plan, Strategy},
    schedule::{LAST_STAGE, Timing},
};

/// The pairs of the last stage, which one side leaves to its peer sooner or later: the controlled
/// one, unless only the other's NAT lets in more than what it has sent a SYN to.
///
/// A NAT that refuses a SYN in answer to a SYN (against RFC 5382 REQ-2) refuses it on that pair for
/// minutes, so a pair that such NATs can open is one that only one side has ever dialled. That is
/// the last one from the start where our NAT lets in whoever has an address that we have sent to:
/// the earlier pairs lead to the same. Where our NAT asks for a SYN to just that port, ours goes
/// out as ever, and opens a hole that stays when the socket is closed; that helps if only the
/// peer's host, or ours, refuses. It is closed when it has been silent for as long as any attempt
/// is left alone, for most NATs would rather have crossing SYNs.
#[derive(Debug)]
pub(super) struct Last {
    /// The peer's addresses that pairs of all stages lead to.
    remotes: BTreeSet<IpAddr>,
    /// Whether our NAT wants to see a SYN to the peer's port first.
    needs_syn: bool,
}

impl Last {
    /// Finds those pairs among all that are to be dialled.
    pub(super) fn of(
        introduced: &Introduced,
        plan: &Plan,
        ordered: &[(u32, CandidatePair)],
    ) -> Self {
        let leads_there = |ip: IpAddr, wanted: u32| {
            let mut pairs = ordered.iter();
            pairs.any(|(stage, pair)| *stage == wanted && pair.remote.ip() == ip)
        };
        let ips = ordered.iter().map(|(_, pair)| pair.remote.ip());
        let needs_syn = |nat: NatReport| match nat.filtering {
            Some(NatFiltering::EndpointIndependent | NatFiltering::AddressDependent) => false,
            Some(NatFiltering::AddressAndPortDependent) | None => true,
        };
        let (here, there) = (
            needs_syn(introduced.local_nat),
            needs_syn(introduced.remote_nat),
        );
        // The peer comes to the opposite result.
        let listens = match introduced.role {
            Role::Controlled => !here || there,
            Role::Controlling => !here && there,
        };
        let remotes = if listens && plan.strategy == Strategy::Plain {
            ips.filter(|ip| (0..LAST_STAGE).all(|stage| leads_there(*ip, stage)))
                .collect()
        } else {
            BTreeSet::new()
        };
        Self {
            remotes,
            needs_syn: here,
        }
    }

    /// Sets who dials a pair if it is one of them.
    pub(super) fn apply(&self, pair: &mut Pair, timing: &Timing) {
        if pair.stage != LAST_STAGE || !self.remotes.contains(&pair.pair.remote.ip()) {
            return;
        }
        if self.needs_syn {
            pair.dialled_by = DialledBy::PeerAfter(timing.attempt_min);
        } else {
            pair.dialled_by = DialledBy::Peer;
            pair.enter(CheckState::Ended(Ending::Passive));
        }
    }
}
