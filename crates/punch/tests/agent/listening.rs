//! Connections that are accepted.

use std::{collections::BTreeSet, net::SocketAddr};

use p2pconnect_proto::{NatFiltering, NatReport, Role};
use p2pconnect_punch::{Action, CheckId, ConnectFailure};

use crate::rig::{
    HERE, HERE_SPARE, P, PEER, PEER_SPARE, Q, Rig, address, base, behind_nats, introduced,
    reflexive,
};

/// A silent round up to `ms`; returns all dials in their order.
fn silence(rig: &mut Rig, ms: u64) -> Vec<(CheckId, [SocketAddr; 2])> {
    rig.run_to(ms);
    let dials = rig.connects().into_iter();
    dials
        .map(|(check, local, remote)| (check, [local, remote]))
        .collect()
}

fn filters(role: Role, filtering: NatFiltering) -> Rig {
    let mut introduced = behind_nats(role);
    introduced.local_nat = NatReport {
        filtering: Some(filtering),
        ..NatReport::default()
    };
    Rig::new(introduced)
}

#[test]
fn a_side_that_lets_the_peer_in_leaves_one_pair_to_it() {
    let last = [HERE, PEER_SPARE].map(address);
    for filtering in [
        NatFiltering::EndpointIndependent,
        NatFiltering::AddressDependent,
    ] {
        let mut controlled = filters(Role::Controlled, filtering);
        let dials = silence(&mut controlled, 3_900);
        assert_eq!(dials.len(), 3);
        assert!(dials.iter().all(|(_, ends)| *ends != last), "{dials:?}");
        assert!(controlled.accepted(PEER_SPARE).is_some());
        // The peer, whose NAT lets in nobody, or is not known.
        let mut controlling = behind_nats(Role::Controlling);
        controlling.remote_nat.filtering = Some(filtering);
        let dials: BTreeSet<_> = silence(&mut Rig::new(controlling), 3_900)
            .into_iter()
            .map(|(_, ends)| ends)
            .collect();
        assert_eq!(dials.len(), 4);
        assert!(dials.contains(&[HERE_SPARE, PEER].map(address)));
    }
}

#[test]
fn the_controlling_side_listens_where_only_it_lets_the_peer_in() {
    let last = [HERE_SPARE, PEER].map(address);
    let mut controlling = filters(Role::Controlling, NatFiltering::AddressDependent);
    let dials = silence(&mut controlling, 3_900);
    assert_eq!(dials.len(), 3);
    assert!(dials.iter().all(|(_, ends)| *ends != last), "{dials:?}");
    let mut controlled = behind_nats(Role::Controlled);
    controlled.remote_nat.filtering = Some(NatFiltering::AddressDependent);
    let mut controlled = Rig::new(controlled);
    let dials = silence(&mut controlled, 3_900);
    assert_eq!(dials.len(), 4);
    assert_eq!(controlled.actions(), []);
}

#[test]
fn a_hole_that_is_needed_stays_when_its_socket_is_closed() {
    let mut rig = filters(Role::Controlled, NatFiltering::AddressAndPortDependent);
    let dials = silence(&mut rig, 3_300);
    let last = [HERE, PEER_SPARE].map(address);
    let (check, _) = *dials.iter().find(|(_, ends)| *ends == last).unwrap();
    rig.run_to(3_500);
    assert_eq!(rig.actions(), [Action::Close { check }]);
    rig.run_to(3_900);
    assert_eq!(rig.actions(), []);
    let check = rig.accepted(PEER_SPARE).unwrap();
    assert_eq!(rig.actions(), [Action::Verify { check }]);
}

#[test]
fn a_late_reset_on_the_last_pair_leaves_it_to_the_peer() {
    let mut rig = filters(Role::Controlled, NatFiltering::AddressAndPortDependent);
    let last = [HERE, PEER_SPARE].map(address);
    let reset_last = |rig: &mut Rig, ms| {
        let dials = silence(rig, ms);
        let (check, _) = *dials.iter().find(|(_, ends)| *ends == last).unwrap();
        rig.failed(check, ConnectFailure::Refused);
    };
    reset_last(&mut rig, 2_900);
    reset_last(&mut rig, 3_100);
    assert_eq!(silence(&mut rig, 3_900), []);
}

#[test]
fn no_pair_is_left_to_a_peer_that_may_not_know_of_it() {
    let open = NatReport {
        filtering: Some(NatFiltering::EndpointIndependent),
        ..NatReport::default()
    };
    let bases = [base(HERE, P), base(HERE_SPARE, Q)];
    let mut introduced = introduced(Role::Controlled, &bases, &[reflexive(PEER_SPARE, Q)]);
    introduced.local_nat = open;
    assert_eq!(silence(&mut Rig::new(introduced), 2_000).len(), 2);
}
