//! What an endpoint knows beside its attempts that explains why they failed.

use std::{collections::BTreeSet, net::IpAddr};

use p2pconnect_proto::{Candidate, is_global, is_local};
use p2pconnect_punch::{PunchReport, Verdict};

use crate::{
    introduction::{known_families::KnownFamilies, remote_candidates::Vantage},
    nat::mappings::Mapped,
};

/// From where an endpoint is seen, and sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// This machine's own addresses.
    own: BTreeSet<IpAddr>,
    /// Where the coordinator is.
    coordinator: IpAddr,
    /// Where the coordinator, and the STUN servers that it names, see this endpoint.
    seen: BTreeSet<IpAddr>,
    /// The addresses from which STUN servers are asked.
    mapped: BTreeSet<IpAddr>,
    /// Where the peer may be, as the coordinator has told.
    peer: BTreeSet<IpAddr>,
    /// Whether both may be in one network.
    is_shared: bool,
    /// Whether each is known to the other in one address family alone, and these are different
    /// ones.
    are_apart: bool,
}

impl Circumstances {
    /// `candidates` are those of the peer, connected to or not.
    pub(crate) fn new(
        vantage: &Vantage,
        mapped: &[Mapped],
        candidates: &[Candidate],
        known: KnownFamilies,
    ) -> Self {
        Self {
            peer: candidates.iter().map(|it| it.address.ip()).collect(),
            are_apart: known.are_apart(),
            is_shared: vantage.is_in_one_network_with(candidates),
            own: vantage.own().collect(),
            coordinator: vantage.coordinator(),
            seen: vantage.outside().clone(),
            // What a server inside sees says nothing to peers outside.
            mapped: mapped
                .iter()
                .filter(|it| is_global(it.mapped.ip()))
                .map(|it| it.local.ip())
                .collect(),
        }
    }

    /// Puts what these explain in the place of a verdict that knows the attempts alone. A firewall
    /// that `bans` may have turned out to do so since the attempts began.
    pub(crate) fn explain(&self, report: &mut PunchReport, bans: bool) {
        if matches!(
            report.verdict,
            Verdict::WrongIdentity | Verdict::Intercepted | Verdict::NotSent
        ) {
            return;
        }
        if self.is_concealed() {
            report.verdict = Verdict::ConcealedFromCoordinator;
        } else if are_inside(&self.seen) && self.peer.iter().copied().any(is_global) {
            report.verdict = Verdict::KnownInsideOnly;
        } else if are_inside(&self.peer) && !self.is_shared {
            report.verdict = Verdict::PeerKnownInsideOnly;
        } else if self.are_apart && !report.pairs.is_empty() {
            report.verdict = Verdict::KnownInDifferentFamilies;
        } else if self.is_unmapped(report) {
            report.verdict = Verdict::UnmappedRoute;
        } else if bans && matches!(report.verdict, Verdict::Silent | Verdict::Mixed) {
            report.verdict = Verdict::FirewallBans;
        }
    }

    /// Tells whether a coordinator outside sees this endpoint inside, at an address that it does
    /// not have: then something in front of the coordinator puts its own address there.
    fn is_concealed(&self) -> bool {
        let is_hidden = |ip: &IpAddr| is_local(*ip) && !self.own.contains(ip);
        is_global(self.coordinator) && self.seen.iter().any(is_hidden)
    }

    /// Tells whether packets to all of the peer's public addresses leave from an address from which
    /// no STUN server was asked, though one was from another.
    fn is_unmapped(&self, report: &PunchReport) -> bool {
        let is_asked_elsewhere = |source: IpAddr| {
            let is_other = |ip: &IpAddr| ip.is_ipv4() == source.is_ipv4() && *ip != source;
            !self.mapped.contains(&source) && self.mapped.iter().any(is_other)
        };
        let tried = report.pairs.iter().filter(|it| it.attempts > 0);
        let mut outside = tried.filter(|it| is_global(it.pair.remote.ip())).peekable();
        outside.peek().is_some() && outside.all(|it| is_asked_elsewhere(it.pair.local.ip()))
    }
}

/// Tells whether all addresses, of which there is one at least, are inside a network.
pub(crate) fn are_inside(addresses: &BTreeSet<IpAddr>) -> bool {
    !addresses.is_empty() && addresses.iter().copied().all(is_local)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect_proto::{CandidateKind, NatReport};
    use p2pconnect_punch::{CandidatePair, PairOutcome, PairReport};

    use super::*;

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|it| it.parse().unwrap()).collect()
    }

    fn explained(it: &Circumstances, verdict: Verdict, routes: &[(&str, &str)]) -> Verdict {
        explained_where(false, it, verdict, routes)
    }

    fn explained_where(
        bans: bool,
        it: &Circumstances,
        verdict: Verdict,
        routes: &[(&str, &str)],
    ) -> Verdict {
        let pair = |(to, from): &(&str, &str)| PairReport {
            pair: CandidatePair {
                local: (from.parse::<IpAddr>().unwrap(), 1).into(),
                remote: (to.parse::<IpAddr>().unwrap(), 1).into(),
                kind: CandidateKind::ServerReflexive,
            },
            attempts: 1,
            outcome: PairOutcome::Silent,
        };
        let mut report = PunchReport {
            verdict,
            local_nat: NatReport::default(),
            remote_nat: NatReport::default(),
            nat64: false,
            guessed: false,
            pairs: routes.iter().map(pair).collect(),
            others: Default::default(),
        };
        it.explain(&mut report, bans);
        report.verdict
    }

    fn at_home() -> Circumstances {
        Circumstances {
            own: set(&["192.168.1.5", "fd00::5"]),
            coordinator: "203.0.113.1".parse().unwrap(),
            seen: set(&["198.51.100.7"]),
            mapped: set(&["192.168.1.5"]),
            peer: set(&["192.168.7.9", "203.0.113.9"]),
            is_shared: false,
            are_apart: false,
        }
    }

    #[test]
    fn a_side_that_is_seen_from_within_its_network_is_told_of() {
        let there = [("203.0.113.9", "192.168.1.5")];
        let verdict = |it: &Circumstances| explained(it, Verdict::Silent, &there);
        let beside = Circumstances {
            coordinator: "192.168.1.2".parse().unwrap(),
            seen: set(&["192.168.1.5", "fd00::5"]),
            mapped: set(&[]),
            is_shared: true,
            ..at_home()
        };
        assert_eq!(verdict(&beside), Verdict::KnownInsideOnly);
        let mut seen_outside = beside.clone();
        seen_outside.seen.extend(set(&["2001:db8::5"]));
        assert_eq!(verdict(&seen_outside), Verdict::Silent);
        // Both are in that network, or on this machine.
        let both = Circumstances {
            peer: set(&["192.168.1.9"]),
            ..beside.clone()
        };
        assert_eq!(verdict(&both), Verdict::Silent);
        let here = Circumstances {
            coordinator: "127.0.0.1".parse().unwrap(),
            seen: set(&["127.0.0.1"]),
            ..beside
        };
        assert_eq!(verdict(&here), Verdict::Silent);
    }

    #[test]
    fn a_peer_that_is_known_inside_another_network_is_told_of() {
        let inside = Circumstances {
            peer: set(&["192.168.7.9", "fd07::9"]),
            ..at_home()
        };
        let verdict = |it: &Circumstances| explained(it, Verdict::NoCommonFamily, &[]);
        assert_eq!(verdict(&inside), Verdict::PeerKnownInsideOnly);
        let together = Circumstances {
            is_shared: true,
            ..inside.clone()
        };
        assert_eq!(verdict(&together), Verdict::NoCommonFamily);
        let nowhere = Circumstances {
            peer: set(&[]),
            ..inside.clone()
        };
        assert_eq!(verdict(&nowhere), Verdict::NoCommonFamily);
        // A network here that is numbered like the one there.
        let neighbour = [("192.168.7.9", "192.168.7.5")];
        let silent = explained(&inside, Verdict::Silent, &neighbour);
        assert_eq!(silent, Verdict::PeerKnownInsideOnly);
    }

    #[test]
    fn peers_that_are_known_in_different_families_are_told_of() {
        let apart = Circumstances {
            are_apart: true,
            ..at_home()
        };
        let there = [("203.0.113.9", "192.168.1.5")];
        for verdict in [Verdict::Silent, Verdict::BothMappingsVary] {
            let expected = Verdict::KnownInDifferentFamilies;
            assert_eq!(explained(&apart, verdict, &there), expected);
            assert_eq!(explained(&at_home(), verdict, &there), verdict);
        }
        // There is no route at all in the peer's family.
        let nowhere = explained(&apart, Verdict::NoCommonFamily, &[]);
        assert_eq!(nowhere, Verdict::NoCommonFamily);
    }

    #[test]
    fn a_coordinator_outside_that_sees_this_side_inside_is_told_of() {
        let there = [("203.0.113.9", "192.168.1.5")];
        let verdict = |it: &Circumstances| explained(it, Verdict::Silent, &there);
        assert_eq!(verdict(&at_home()), Verdict::Silent);
        let mut hidden = at_home();
        hidden.seen.extend(set(&["172.17.0.1"]));
        assert_eq!(verdict(&hidden), Verdict::ConcealedFromCoordinator);
        let wrong = explained(&hidden, Verdict::WrongIdentity, &there);
        assert_eq!(wrong, Verdict::WrongIdentity);
        // A route without a NAT to it, or a coordinator inside, for peers inside.
        hidden.peer = set(&["10.0.7.9"]);
        hidden.is_shared = true;
        hidden.seen = set(&["192.168.1.5"]);
        assert_eq!(verdict(&hidden), Verdict::Silent);
        hidden.seen = set(&["10.0.0.9"]);
        hidden.coordinator = "10.0.0.1".parse().unwrap();
        assert_eq!(verdict(&hidden), Verdict::Silent);
    }

    #[test]
    fn a_route_that_no_server_was_asked_over_is_told_of() {
        let verdict = |routes: &[(&str, &str)]| explained(&at_home(), Verdict::Silent, routes);
        assert_eq!(verdict(&[]), Verdict::Silent);
        let by_tunnel = ("203.0.113.9", "10.8.0.2");
        assert_eq!(verdict(&[by_tunnel]), Verdict::UnmappedRoute);
        assert_eq!(
            verdict(&[by_tunnel, ("192.168.1.9", "192.168.1.5")]),
            Verdict::UnmappedRoute
        );
        let outside = ("198.51.100.4", "192.168.1.5");
        assert_eq!(verdict(&[by_tunnel, outside]), Verdict::Silent);
        // No server was asked over IPv6 at all.
        assert_eq!(verdict(&[("2001:db8::9", "2001:db8::5")]), Verdict::Silent);
    }

    #[test]
    fn a_firewall_that_bans_explains_silence_and_nothing_that_was_heard() {
        let outside = [("203.0.113.9", "192.168.1.5")];
        let verdict = |it| explained_where(true, &at_home(), it, &outside);
        for unexplained in [Verdict::Silent, Verdict::Mixed] {
            assert_eq!(verdict(unexplained), Verdict::FirewallBans);
        }
        for heard in [
            Verdict::Refused,
            Verdict::WrongIdentity,
            Verdict::BothMappingsVary,
        ] {
            assert_eq!(verdict(heard), heard);
        }
        let by_tunnel = [("203.0.113.9", "10.8.0.2")];
        let unmapped = explained_where(true, &at_home(), Verdict::Silent, &by_tunnel);
        assert_eq!(unmapped, Verdict::UnmappedRoute);
    }
}
