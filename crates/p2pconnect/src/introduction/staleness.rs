//! Notices that an introduction is stale: what the peer was told of this side does not hold any
//! more.

use std::{future, net::SocketAddr, time::Duration};

use p2pconnect_proto::{NatReport, PortAssignment, Role, SessionToken};
use p2pconnect_punch::spare_ports;
use tokio::time::{sleep, timeout};

use crate::{
    introduction::{advertisement::Advertisement, known_families::KnownFamilies},
    nat::{
        behaviour::{Behaviour, lets_anybody_in},
        discovery,
        mappings::{Mapped, Mappings},
    },
    session::SynGate,
};

/// How long the first SYNs of a session take to leave.
const LEAVING: Duration = Duration::from_millis(2);

/// How long a session may take to begin its first connection.
const BEGINNING: Duration = Duration::from_millis(50);

/// The longest time that is waited for them.
const MAX_PATIENCE: Duration = Duration::from_millis(500);

/// What shows whether an introduction is stale: what the peer was told, and how many connections
/// have been begun.
#[derive(Debug)]
pub(crate) struct StalenessCheck {
    pub(crate) session: SessionToken,
    pub(crate) advertised: Advertisement,
    /// In which families the two know each other.
    pub(crate) known: KnownFamilies,
    /// How many of this side's claims the peer was told an address for.
    pub(crate) witnessed: u8,
    pub(crate) role: Role,
    /// What the peer has told of its own NAT.
    pub(crate) peer: NatReport,
    /// The round-trip time by way of the coordinator.
    pub(crate) rtt_via_coordinator: Duration,
    pub(crate) syn_gate: SynGate,
}

impl StalenessCheck {
    /// Returns how long the first SYNs, once they have left, are waited for: should the peer let
    /// anybody in, of which it need not know yet, they suffice.
    pub(crate) fn patience(&self) -> Duration {
        if self.peer.filtering.is_some() {
            return Duration::ZERO;
        }
        (self.rtt_via_coordinator * 3 / 2).min(MAX_PATIENCE)
    }

    /// Returns what is known of both NATs, this side's first.
    pub(crate) const fn nats(&self) -> [&NatReport; 2] {
        [&self.advertised.nat, &self.peer]
    }

    /// Tells whether the peer may know nothing of this side but private addresses: the coordinator
    /// had not seen it, and no STUN server had answered.
    fn is_without_mapping(&self) -> bool {
        self.role == Role::Controlling && !self.advertised.is_mapped && self.witnessed == 0
    }

    /// Tells whether these mappings lead anywhere that the peer does not know.
    fn lacks(&self, mapped: &[Mapped]) -> bool {
        let is_known =
            |it: &Mapped| self.has_named(it) && self.known.were_passed_on(it.mapped.ip());
        !mapped.iter().all(is_known)
    }

    /// Tells whether this side has named a mapping.
    fn has_named(&self, mapped: &Mapped) -> bool {
        let mut candidates = self.advertised.candidates.iter();
        candidates.any(|it| it.address == mapped.mapped)
    }
}

/// Waits until an introduction is stale, so that another one would be better than to go on. Cancel
/// safe.
///
/// `own` are the mappings of the ports that the session connects from, `mappings` those of the
/// endpoint.
pub(crate) async fn becomes_stale(
    check: StalenessCheck,
    own: &Mappings,
    mappings: &Mappings,
    behaviour: &Behaviour,
) {
    // The way to such a peer does not depend on this side's ports.
    if lets_anybody_in(&check.peer) {
        return future::pending().await;
    }
    tokio::select! {
        true = behaviour.makes_stale(&check.advertised.nat) => {}
        true = has_moved(&check, mappings, behaviour) => {}
        true = is_late(&check, own) => {}
        () = leaves_elsewhere(&check, own) => {}
        true = meets_by_another_family(&check, own) => {}
    }
    let first_ones = async {
        check.syn_gate.begun().await;
        sleep(LEAVING).await;
    };
    if timeout(BEGINNING, first_ones).await.is_err() {
        tracing::debug!("an introduction ends before anything has been tried");
    }
}

/// Waits for a mapping that not even the coordinator knew when it introduced this side: packets to
/// the STUN server were lost, and the peer dials nothing but private addresses. Returns whether
/// there is one.
async fn is_late(check: &StalenessCheck, mappings: &Mappings) -> bool {
    let is_late = check.is_without_mapping()
        && mappings.first().await.is_ok()
        && check.lacks(&mappings.known());
    if is_late {
        tracing::debug!("the peer does not know this side's mapping");
    }
    is_late
}

/// Waits for a mapping over another route than that to the servers, of which the peer has not been
/// told.
async fn leaves_elsewhere(check: &StalenessCheck, mappings: &Mappings) {
    mappings.elsewhere_lacking(|it| check.has_named(it)).await;
    tracing::debug!("the peer does not know the mapping of the route that leads to it");
}

/// Waits for a mapping of the peer's family, if the peer knows this side in the other one alone.
/// Returns whether it does.
async fn meets_by_another_family(check: &StalenessCheck, mappings: &Mappings) -> bool {
    if !check.known.are_apart() {
        return false;
    }
    mappings.mapped(|it| check.known.would_meet_by(it)).await;
    tracing::debug!("the peer does not know this side by an address of its family");
    true
}

/// Waits until it is known whether others have got the ports that the peer expects connections
/// from, and returns whether they have.
async fn has_moved(check: &StalenessCheck, mappings: &Mappings, behaviour: &Behaviour) -> bool {
    let (Some(first), Some(PortAssignment::Sequential { delta })) =
        (check.advertised.predicted, check.advertised.nat.ports)
    else {
        return false;
    };
    if check.role == Role::Controlling && check.advertised.was_probed_just_before() {
        return false;
    }
    let Some(spare) = spare_ports(check.nats()) else {
        return false;
    };
    check.syn_gate.begun().await;
    sleep(LEAVING).await;
    let own = check.syn_gate.count();
    let Some(probed) = discovery::probe_again(mappings, behaviour).await else {
        return false;
    };
    let has_moved = !Sequence { first, delta }.begins_with(own + spare, probed);
    if has_moved {
        tracing::debug!("others have got the ports that the peer expects");
    }
    has_moved
}

/// The addresses that a NAT gives out next, by a step of `delta` ports.
struct Sequence {
    first: SocketAddr,
    delta: u16,
}

impl Sequence {
    /// Returns whether an address is among the first so many of the sequence, or is the one behind
    /// them.
    fn begins_with(&self, count: u32, address: SocketAddr) -> bool {
        let next = |port: &u16| Some(port.wrapping_add(self.delta));
        let ports = std::iter::successors(Some(self.first.port()), next);
        let mut ports = ports.zip(0..=count);
        ports.any(|(port, _)| port == address.port())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use p2pconnect_proto::{Candidate, PunchPort};

    use super::*;
    use crate::machine::interfaces::Interfaces;

    const PORT: PunchPort = PunchPort::PRIMARY;

    fn address(host: [u8; 4]) -> SocketAddr {
        (host, 40_000).into()
    }

    /// A dialler with these addresses, of whose claims so many have been honoured.
    fn check(candidates: Vec<Candidate>, is_mapped: bool, witnessed: u8) -> StalenessCheck {
        StalenessCheck {
            session: SessionToken::from_bytes([1; SessionToken::LEN]),
            advertised: Advertisement {
                at: Instant::now(),
                interfaces: Interfaces::of(&p2pconnect_host::Host::default()),
                is_mapped,
                candidates,
                nat: NatReport::default(),
                predicted: None,
                probed_at: None,
                unused: None,
            },
            known: KnownFamilies::default(),
            witnessed,
            role: Role::Controlling,
            peer: NatReport::default(),
            rtt_via_coordinator: Duration::from_millis(84),
            syn_gate: SynGate::default(),
        }
    }

    fn mapped(from: [u8; 4], to: [u8; 4]) -> Mapped {
        Mapped {
            punch_port: PORT,
            local: address(from),
            mapped: address(to),
            server: address([203, 0, 113, 1]),
            token: None,
        }
    }

    #[test]
    fn a_peer_knows_what_the_coordinator_has_seen() {
        let (home, nat) = ([192, 168, 1, 2], [203, 0, 113, 7]);
        let host = vec![Candidate::host(address(home), PORT)];
        let both = vec![
            Candidate::host(address(home), PORT),
            Candidate::server_reflexive(address(nat), PORT, None),
        ];
        assert!(check(host.clone(), false, 0).is_without_mapping());
        assert!(!check(host.clone(), false, 1).is_without_mapping());
        assert!(!check(both, true, 0).is_without_mapping());
        let callee = StalenessCheck {
            role: Role::Controlled,
            ..check(host, false, 0)
        };
        assert!(!callee.is_without_mapping());
    }

    #[test]
    fn a_mapping_that_is_no_news_is_not_late() {
        let (home, nat, public) = ([192, 168, 1, 2], [203, 0, 113, 7], [203, 0, 113, 8]);
        let behind_a_nat = check(vec![Candidate::host(address(home), PORT)], false, 0);
        assert!(behind_a_nat.lacks(&[mapped(home, nat)]));
        let mut without_one = check(vec![Candidate::host(address(public), PORT)], false, 0);
        // The coordinator has seen nothing at that address, so it has not passed it on.
        assert!(without_one.lacks(&[mapped(public, public)]));
        without_one.known = KnownFamilies::of_own([address(public).ip()]);
        assert!(!without_one.lacks(&[mapped(public, public)]));
    }

    #[test]
    fn own_connections_and_a_few_others_are_expected() {
        let at = |port: u16| SocketAddr::from(([203, 0, 113, 7], port));
        let sequence = Sequence {
            first: at(65_532),
            delta: 2,
        };
        assert!(sequence.begins_with(2, at(65_532)));
        assert!(sequence.begins_with(2, at(0)));
        assert!(!sequence.begins_with(2, at(2)));
        assert!(!sequence.begins_with(2, at(65_530)));
    }
}
