//! What the people could change on their side when there is no direct path, beside what the verdict
//! says.

use std::net::IpAddr;

use p2pconnect::{PairReport, PortAssignment, PunchReport, Verdict};
use p2pconnect_proto::is_global;

/// The most ports of a block that carriers give to a subscriber, and far fewer than the NAT of one
/// household has.
const LARGEST_BLOCK: u16 = 8192;

/// What the router on this side does about forwarding ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Router {
    /// The user did not want it to be asked.
    Unasked,
    /// It has not answered, or does not forward.
    Silent,
    /// It forwards from an address that peers elsewhere cannot reach.
    BehindNat,
    /// It forwards.
    Forwards,
}

/// Returns what would help, if something does.
pub(crate) fn hint(router: Router, report: &PunchReport) -> Option<&'static str> {
    if matches!(
        report.verdict,
        Verdict::NoCommonFamily
            | Verdict::NotSent
            | Verdict::KnownInDifferentFamilies
            | Verdict::WrongIdentity
            // A coordinator believes no port of a router that it sees nobody at.
            | Verdict::ConcealedFromCoordinator
            | Verdict::KnownInsideOnly
            | Verdict::PeerKnownInsideOnly
    ) {
        return None;
    }
    if report.nat64 {
        return Some(
            "No ports of the NAT64 on this side can be forwarded. IPv6, or UPnP, PCP or NAT-PMP, on the peer's side \
             would help.",
        );
    }
    match router {
        Router::Unasked if is_nat_a_routers(report) => Some(
            "The router on this side was not asked to forward ports; without --no-port-mapping it would be.",
        ),
        Router::Silent if is_carriers(report) => Some(
            "The NAT on this side is a carrier's, which forwards no ports. UPnP, PCP or NAT-PMP on the peer's side \
             would help.",
        ),
        Router::Silent if is_nat_a_routers(report) => Some(
            "Nothing on this side forwards ports. If the NAT is a router of yours, switching UPnP, PCP or NAT-PMP on \
             there would help.",
        ),
        Router::BehindNat => Some(
            "The router on this side forwards ports, but is behind a NAT itself. UPnP, PCP or NAT-PMP on the peer's \
             side would help.",
        ),
        Router::Unasked | Router::Silent | Router::Forwards => None,
    }
}

/// Returns the pairs that lead out of this side's network.
fn outwards(report: &PunchReport) -> impl Iterator<Item = &PairReport> {
    report
        .pairs
        .iter()
        .filter(|it| is_global(it.pair.remote.ip()))
}

/// Tells whether there may be a router between this machine and the peer. A machine with a public
/// IPv4 address has a firewall at most, its own or that of a cloud.
fn is_nat_a_routers(report: &PunchReport) -> bool {
    let is_public = |it: &PairReport| it.pair.local.is_ipv4() && is_global(it.pair.local.ip());
    !outwards(report).all(is_public)
}

/// Tells whether the NAT is shared by subscribers: it gives them addresses that are for this alone
/// (RFC 6598), or each a block of ports.
fn is_carriers(report: &PunchReport) -> bool {
    let is_shared = |ip| match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [100, 64..=127, ..]),
        IpAddr::V6(_) => false,
    };
    let has_block = match report.local_nat.ports {
        Some(PortAssignment::Random { first, last }) => last.saturating_sub(first) < LARGEST_BLOCK,
        Some(PortAssignment::Preserved | PortAssignment::Sequential { .. }) | None => false,
    };
    has_block || outwards(report).any(|it| is_shared(it.pair.local.ip()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect::{CandidateKind, CandidatePair, NatReport, PairOutcome};

    use super::*;

    fn of(router: Router, local: &str, ports: Option<PortAssignment>) -> Option<&'static str> {
        let pair = CandidatePair {
            local: local.parse().unwrap(),
            remote: "203.0.113.9:1".parse().unwrap(),
            kind: CandidateKind::ServerReflexive,
        };
        let pairs = vec![PairReport {
            pair,
            attempts: 1,
            outcome: PairOutcome::Silent,
        }];
        let local_nat = NatReport {
            ports,
            ..NatReport::default()
        };
        let report = PunchReport {
            verdict: Verdict::Silent,
            local_nat,
            remote_nat: NatReport::default(),
            nat64: false,
            guessed: false,
            pairs,
            others: Default::default(),
        };
        hint(router, &report)
    }

    #[test]
    fn a_router_is_to_be_switched_where_there_may_be_one() {
        const HOME: &str = "192.168.1.2:5";
        let silent = |local, ports| of(Router::Silent, local, ports).unwrap_or_default();
        let random = |last| Some(PortAssignment::Random { first: 1024, last });
        for ports in [None, random(65_535)] {
            assert!(silent(HOME, ports).contains("a router of yours"));
        }
        for carriers in [
            silent("100.72.0.2:5", None),
            silent(HOME, random(1024 + 2047)),
        ] {
            assert!(carriers.contains("is a carrier's"), "{carriers}");
            assert!(carriers.contains("on the peer's side"), "{carriers}");
        }
        assert_eq!(silent("203.0.113.7:5", None), "");
        assert_eq!(of(Router::Forwards, HOME, None), None);
        assert!(of(Router::Unasked, HOME, None).is_some());
    }
}
