//! What an agent starts from.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use p2pconnect_proto::{Candidate, NatReport, Role, is_global};

use crate::{Base, ConnectFailure};

/// What an agent starts from: one introduction, seen from one side.
#[derive(Debug, Clone)]
pub struct Introduced {
    /// Our side.
    pub role: Role,
    /// Where we can connect from.
    pub bases: Vec<Base>,
    /// From which local address the system reaches which remote one, where that is known.
    ///
    /// No pair is formed with another local address then: its packets would leave by the same way
    /// and could take the port, in a NAT there, that the right one's packets are expected from.
    pub routes: BTreeMap<IpAddr, IpAddr>,
    /// Why the system reaches no others, of the families that this machine has addresses of.
    pub unrouted: BTreeMap<IpAddr, ConnectFailure>,
    /// Which IPv6 addresses among the candidates stand for public IPv4 addresses of the peer's,
    /// behind a NAT64 on this side (RFC 6052). What is known of NATs holds for these as for IPv4.
    pub translated: BTreeSet<IpAddr>,
    /// Where the peer may be reached.
    pub remote_candidates: Vec<Candidate>,
    /// Whether the peer may connect although none of its addresses serves: it has some, which mean
    /// nothing from here, and knows ours.
    pub may_be_reached: bool,
    /// Whether the peer knows no address of ours in the families that its addresses are of: its
    /// SYNs and ours never cross then, and only whoever lets strangers in is reached.
    pub families_apart: bool,
    /// The round-trip time between the peers by way of the coordinator.
    pub rtt_via_coordinator: Duration,
    /// What we know of our NAT so far.
    pub local_nat: NatReport,
    /// What the peer told of its NAT.
    pub remote_nat: NatReport,
}

impl Introduced {
    /// Tells whether the system may reach an address from a local one.
    pub(crate) fn is_routed(&self, local: IpAddr, remote: IpAddr) -> bool {
        let route = self.routes.get(&remote);
        local.is_ipv4() == remote.is_ipv4() && route.is_none_or(|source| *source == local)
    }

    /// Tells whether packets to an address arrive there as IPv4.
    pub(crate) fn is_over_ipv4(&self, remote: IpAddr) -> bool {
        remote.is_ipv4() || self.translated.contains(&remote)
    }

    /// Tells whether packets to an address arrive as IPv4, at one that can be reached from
    /// anywhere.
    pub(crate) fn is_global_ipv4(&self, remote: IpAddr) -> bool {
        self.translated.contains(&remote) || (remote.is_ipv4() && is_global(remote))
    }
}
