//! The conclusion from the evidence of all pairs.

use std::{collections::BTreeSet, fmt};

use p2pconnect_proto::{CandidateKind, NatFiltering, NatMapping, NatReport, is_global};

use super::reasons;
use crate::{PairOutcome, PairReport, PunchReport, VerifyFailure, behaviour::mapping_varies};

/// How many ports of the peer's somebody else has to answer at: one may be that of a service which
/// a router forwards.
const MIN_TAKEN_PORTS: usize = 2;

/// Why no direct path was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The peers have no address family in common.
    NoCommonFamily,
    /// This machine could send nothing to any of the peer's addresses.
    NotSent,
    /// Somebody else answered in the peer's place.
    WrongIdentity,
    /// Somebody between the peers takes every connection at once, as a transparent proxy does.
    Intercepted,
    /// Something in front of the coordinator hides from it where this side is.
    ConcealedFromCoordinator,
    /// This side is seen only at addresses inside a network that the peer is not in.
    KnownInsideOnly,
    /// The peer is known only by addresses inside a network that this side is not in.
    PeerKnownInsideOnly,
    /// Each side is known to the other in one address family alone, and these are different ones.
    KnownInDifferentFamilies,
    /// Packets to the peer take a route that no STUN server was asked over.
    UnmappedRoute,
    /// A firewall on this side seems to ban whoever sends a SYN that it does not expect, as the
    /// peer may have.
    FirewallBans,
    /// Our NAT uses another external port for each destination, and the peer's side filters.
    LocalMappingVaries,
    /// The peer's NAT uses another external port for each destination, and our side filters.
    RemoteMappingVaries,
    /// Both NATs use another external port for each destination.
    BothMappingsVary,
    /// Both NATs have few ports for this side or the peer, and none of them led to the other.
    PortsExhausted,
    /// This side has sent too much to the peer's networks in vain, and sends no more for now.
    Withheld,
    /// Every attempt was answered with a reset.
    Refused,
    /// The network said that the peer is out of reach.
    Unreachable,
    /// Nothing ever came back.
    Silent,
    /// Different things on different pairs, none of them a connection.
    Mixed,
}

impl Verdict {
    pub(crate) fn of(local: NatReport, remote: NatReport, pairs: &[PairReport]) -> Self {
        let wrong = PairOutcome::NotThePeer(VerifyFailure::WrongIdentity);
        if pairs.is_empty() {
            return Self::NoCommonFamily;
        }
        if pairs.iter().any(|pair| pair.outcome == wrong) {
            return Self::WrongIdentity;
        }
        let withheld = pairs.iter().filter(|pair| pair.outcome.is_withheld());
        if withheld.count() * 2 > pairs.len() {
            return Self::Withheld;
        }
        let mut tried = pairs
            .iter()
            .filter(|pair| pair.outcome != PairOutcome::NotTried);
        if tried.clone().next().is_some() && tried.all(|pair| pair.local_cause().is_some()) {
            return Self::NotSent;
        }
        if is_intercepted(pairs) {
            return Self::Intercepted;
        }
        let varies = |nat: NatReport| mapping_varies(nat.mapping).is_some();
        match (varies(local), varies(remote)) {
            (true, true) => Self::BothMappingsVary,
            (true, false) => Self::LocalMappingVaries,
            (false, true) => Self::RemoteMappingVaries,
            (false, false) => Self::of_outcomes(pairs),
        }
    }

    fn of_outcomes(pairs: &[PairReport]) -> Self {
        let tried = || {
            pairs
                .iter()
                .filter(|pair| pair.outcome != PairOutcome::NotTried)
        };
        // The peer's private addresses hardly ever answer, and that means nothing.
        let telling = |pair: &&PairReport| {
            pair.pair.kind != CandidateKind::Host || is_global(pair.pair.remote.ip())
        };
        let all = |is: fn(PairOutcome) -> bool| {
            if tried().any(|pair| telling(&pair)) {
                tried().filter(telling).all(|pair| is(pair.outcome))
            } else {
                tried().all(|pair| is(pair.outcome))
            }
        };
        if all(PairOutcome::is_silent) {
            Self::Silent
        } else if all(PairOutcome::is_refused) {
            Self::Refused
        } else if all(PairOutcome::is_unreachable) {
            Self::Unreachable
        } else {
            Self::Mixed
        }
    }

    /// Writes the reason and what would help, naming the NATs' behaviours.
    pub(super) fn explain(self, f: &mut fmt::Formatter<'_>, report: &PunchReport) -> fmt::Result {
        let PunchReport {
            local_nat,
            remote_nat,
            ..
        } = *report;
        let (local, remote) = (Varying(local_nat), Varying(remote_nat));
        let help = Help(report);
        match self {
            Self::LocalMappingVaries => write!(
                f,
                "This side's NAT uses another external port for each destination ({local}), which \
                 the peer cannot know, and the peer's side {}. {help} or endpoint-independent \
                 mapping on this side's NAT would help.",
                LetsIn(remote_nat.filtering),
            ),
            Self::RemoteMappingVaries => write!(
                f,
                "The peer's NAT uses another external port for each destination ({remote}), which \
                 this side cannot know, and this side {}. {help} or endpoint-independent mapping on \
                 the peer's NAT would help.",
                LetsIn(local_nat.filtering),
            ),
            Self::BothMappingsVary => write!(
                f,
                "Both NATs use another external port for each destination (this side {local}, the \
                 peer's side {remote}), so neither side can know where to send. {help} or endpoint-independent \
                 mapping on either side would help.",
            ),
            Self::PortsExhausted => write!(
                f,
                "Both NATs use another external port for each destination (this side {local}, the \
                 peer's side {remote}), and none of the ports that they give out led to the other. \
                 An earlier attempt may have used them up. Trying again in some minutes or a port \
                 mapping would help.",
            ),
            Self::KnownInDifferentFamilies => {
                let (here, there) = report.families_known();
                write!(
                    f,
                    "The peer is known by {there} addresses alone, and knows this side by {here} addresses \
                     alone: this side has no {there} mapping, and the peer no {here} mapping. Naming the \
                     coordinator by a host name that has IPv4 and IPv6 addresses, or by addresses of one \
                     family, on both sides would help.",
                )
            }
            Self::NotSent => {
                let causes = report.pairs.iter().filter_map(PairReport::local_cause);
                let causes = causes.collect::<BTreeSet<_>>().into_iter();
                write!(
                    f,
                    "This machine could send nothing to the peer's addresses: {}. Its routes, its \
                     firewall, or what confines this program may have to be changed.",
                    causes.collect::<Vec<_>>().join(", "),
                )
            }
            Self::NoCommonFamily
            | Self::WrongIdentity
            | Self::Intercepted
            | Self::ConcealedFromCoordinator
            | Self::KnownInsideOnly
            | Self::PeerKnownInsideOnly
            | Self::UnmappedRoute
            | Self::FirewallBans
            | Self::Withheld
            | Self::Refused
            | Self::Unreachable
            | Self::Silent
            | Self::Mixed => f.write_str(self.words().unwrap_or_default()),
        }
    }

    /// Returns the reason and what would help, where that does not depend on how the NATs behave.
    const fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::LocalMappingVaries
            | Self::RemoteMappingVaries
            | Self::BothMappingsVary
            | Self::KnownInDifferentFamilies
            | Self::NotSent
            | Self::PortsExhausted => return None,
            Self::NoCommonFamily => reasons::NO_COMMON_FAMILY,
            Self::WrongIdentity => reasons::WRONG_IDENTITY,
            Self::Intercepted => reasons::INTERCEPTED,
            Self::ConcealedFromCoordinator => reasons::CONCEALED_FROM_COORDINATOR,
            Self::KnownInsideOnly => reasons::KNOWN_INSIDE_ONLY,
            Self::PeerKnownInsideOnly => reasons::PEER_KNOWN_INSIDE_ONLY,
            Self::UnmappedRoute => reasons::UNMAPPED_ROUTE,
            Self::FirewallBans => reasons::FIREWALL_BANS,
            Self::Withheld => reasons::WITHHELD,
            Self::Refused => reasons::REFUSED,
            Self::Unreachable => reasons::UNREACHABLE,
            Self::Silent => reasons::SILENT,
            Self::Mixed => reasons::MIXED,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nothing = [NatReport::default(), NatReport::default()];
        self.explain(f, &PunchReport::new(nothing, false, Vec::new()))
    }
}

/// Tells whether connections opened to several ports of the peer's, and none led to it: these are
/// the ports of its NAT, where hardly anything else can listen.
fn is_intercepted(pairs: &[PairReport]) -> bool {
    let is_taken = |pair: &&PairReport| {
        matches!(
            pair.outcome,
            PairOutcome::NotThePeer(
                VerifyFailure::Stranger | VerifyFailure::Closed | VerifyFailure::TimedOut
            )
        ) && is_global(pair.pair.remote.ip())
    };
    let taken: BTreeSet<_> = pairs
        .iter()
        .filter(is_taken)
        .map(|pair| pair.pair.remote.port())
        .collect();
    taken.len() >= MIN_TAKEN_PORTS
}

/// Whom a side lets in, as far as is known.
struct LetsIn(Option<NatFiltering>);

impl fmt::Display for LetsIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "lets in only what it has sent to, as far as is known",
            Some(NatFiltering::EndpointIndependent) => "lets in whoever comes, but nobody came",
            Some(NatFiltering::AddressDependent) => "lets in only addresses that it has sent to",
            Some(NatFiltering::AddressAndPortDependent) => {
                "lets in only addresses and ports that it has sent to"
            }
        })
    }
}

/// What helps against mappings that vary, but for its end.
struct Help<'a>(&'a PunchReport);

impl fmt::Display for Help<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.guessed {
            f.write_str("Ports were guessed and none led to the other; ")?;
            f.write_str(if self.0.lacks_ports() {
                "a NAT that gives a machine so few has none left for some minutes after several dials. "
            } else {
                "trying again may help. "
            })?;
        }
        if self.0.has_tried_ipv6() {
            f.write_str(
                "IPv6 was tried as well and got no further: a firewall there may have to let TCP in. \
                 A port mapping",
            )
        } else {
            f.write_str("IPv6, a port mapping")
        }
    }
}

/// What makes the ports of a NAT hard to know, as far as its report tells.
struct Varying(NatReport);

impl fmt::Display for Varying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mapping = mapping_varies(self.0.mapping);
        let mapping = mapping.unwrap_or(NatMapping::AddressAndPortDependent);
        write!(f, "{mapping}")?;
        match self.0.ports {
            Some(ports) => write!(f, ", {ports}"),
            None => Ok(()),
        }
    }
}
