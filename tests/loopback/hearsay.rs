//! What a coordinator tells of a peer, and what is believed of it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use p2pconnect::{CoordinatorError, DialError, Endpoint, SecretKey};
use p2pconnect_proto::{
    Candidate, CandidateKind, NatMapping, NatReport, PortAssignment, PunchPort, Role, SessionToken,
    message::{Introduction, Notice, Silent},
};
use p2pconnect_tests::rogue::{Impostor, RogueCoordinator, introduction};
use tokio::{net::TcpListener, time::timeout};

use crate::world::{World, address_of};

const PATIENCE: Duration = Duration::from_secs(10);

/// Returns how a dial ends that is answered so, after a notice.
async fn dialled(introduction: Introduction, notice: Option<Notice>) -> DialError {
    let world = World::start();
    let rogue = RogueCoordinator::lying(world.stun, introduction, notice);
    let address = address_of(rogue.id, rogue.address);
    let dialler = Endpoint::builder().coordinator(address).bind().await;
    let dialler = dialler.unwrap();
    let friend = SecretKey::generate().unwrap().peer_id();
    let dialling = timeout(PATIENCE, dialler.dial(friend));
    dialling.await.unwrap().unwrap_err()
}

#[tokio::test]
async fn a_dialler_refuses_an_introduction_that_it_has_not_asked_for() {
    let asked = || introduction(Vec::new());
    let other_peer = Introduction {
        peer: SecretKey::generate().unwrap().peer_id(),
        ..asked()
    };
    let other_role = Introduction {
        role: Role::Controlled,
        ..asked()
    };
    for wrong in [other_peer, other_role] {
        let error = dialled(wrong, None).await;
        let is_refused = matches!(error, DialError::Coordinator(CoordinatorError::Answer));
        assert!(is_refused, "{error:?}");
    }
}

#[tokio::test]
async fn a_dial_ends_when_the_coordinator_hears_nothing_of_the_callee() {
    // Takes connections and says nothing.
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let told = introduction(vec![frozen.local_addr().unwrap()]);
    let silent = Silent {
        session: told.session,
        silent_ms: 17_000,
    };
    let error = dialled(told, Some(Notice::Silent(silent))).await;
    let DialError::PeerSilent(silence) = error else {
        panic!("{error:?}");
    };
    assert_eq!(silence, Duration::from_secs(17));
}

#[tokio::test]
async fn silence_in_another_introduction_ends_nothing() {
    let impostor = Impostor::start().await;
    let silent = Silent {
        session: SessionToken::from_bytes([9; SessionToken::LEN]),
        silent_ms: 17_000,
    };
    let told = introduction(vec![impostor.address]);
    let error = dialled(told, Some(Notice::Silent(silent))).await;
    assert!(matches!(error, DialError::WrongIdentity(_)), "{error:?}");
}

#[tokio::test]
async fn an_ipv4_address_mapped_into_ipv6_is_taken_as_what_it_is() {
    let impostor = Impostor::start().await;
    let IpAddr::V4(v4) = impostor.address.ip() else {
        panic!("the impostor has an ipv4 address");
    };
    let mapped = SocketAddr::new(v4.to_ipv6_mapped().into(), impostor.address.port());
    let error = dialled(introduction(vec![mapped]), None).await;
    let DialError::WrongIdentity(report) = error else {
        panic!("{error:?}");
    };
    let mut remotes = report.pairs.iter().map(|it| it.pair.remote);
    assert!(remotes.all(|it| it == impostor.address), "{report:?}");
}

#[tokio::test]
async fn what_no_peer_can_mean_throws_nobody_off() {
    // Nobody connects to what only malformed candidates name.
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = trap.local_addr().unwrap();
    let malformed = |number, kind| Candidate {
        kind,
        punch_port: PunchPort(number),
        ..Candidate::host(address, PunchPort::PRIMARY)
    };
    for ports in [
        PortAssignment::Sequential { delta: 0 },
        PortAssignment::Random { first: 2, last: 1 },
    ] {
        let impostor = Impostor::start().await;
        let mut told = introduction(vec![impostor.address]);
        told.nat = NatReport {
            mapping: Some(NatMapping::AddressAndPortDependent),
            ports: Some(ports),
            ..NatReport::default()
        };
        let learnt = (0..=2).map(|number| malformed(number, CandidateKind::PeerReflexive));
        let unknown = (3..=255).map(|number| malformed(number, CandidateKind::Host));
        told.candidates.splice(0..0, learnt.chain(unknown));
        // More than an hour.
        told.rtt_via_coordinator_us = u32::MAX;
        // The connection is made all the same, and who is at its end is found out.
        let error = dialled(told, None).await;
        assert!(
            matches!(error, DialError::WrongIdentity(_)),
            "{ports:?}: {error:?}"
        );
        let came = timeout(Duration::ZERO, trap.accept()).await;
        assert!(came.is_err(), "{ports:?}: {came:?}");
    }
}
