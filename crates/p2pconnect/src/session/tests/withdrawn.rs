//! What a session does when its peer has withdrawn, or is not the one at the other end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_host::Host;
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{Candidate, NatReport, PeerId, PunchPort, Role};
use p2pconnect_punch::{Base, Introduced, PunchAgent, PunchConfig, Verdict};
use tokio::{io::AsyncWriteExt as _, sync::oneshot, time::timeout};

use super::{PATIENCE, TOKEN};
use crate::{
    machine::loopback,
    session::{
        Session, SessionError, handover::Handover, holes::Holes, inbound::Inbound, verify::Verifier,
    },
    stream::{
        coordinated_handshake::{CoordinatedHandshake, Progress, Withdrawn, wire},
        parties::Parties,
        path_ledger::PathLedger,
    },
    sync::{Watched, Watcher},
};

/// Returns an address of this machine that nobody listens at.
fn closed() -> SocketAddr {
    let listener = loopback::listener();
    listener.local_addr().unwrap()
}

/// A callee's session with a dialler at this address, and what tells it that the dialler has left.
async fn called_by(remote: SocketAddr) -> (Session, Watched<Option<Withdrawn>>) {
    let [dialler, callee] = [(); 2].map(|()| SecretKey::generate().unwrap());
    let (_dialling, hello) = CoordinatedHandshake::dialling(&dialler, callee.peer_id())
        .await
        .unwrap();
    let called = CoordinatedHandshake::called(&callee, dialler.peer_id(), hello).unwrap();
    session(&callee, dialler.peer_id(), Role::Controlled, called, remote)
}

/// A session with a peer at this address, and what tells it that the peer has left.
fn session(
    key: &SecretKey,
    peer: PeerId,
    role: Role,
    handshake: CoordinatedHandshake,
    remote: SocketAddr,
) -> (Session, Watched<Option<Withdrawn>>) {
    let introduced = Introduced {
        role,
        bases: vec![Base {
            address: closed(),
            punch_port: PunchPort::PRIMARY,
        }],
        routes: BTreeMap::new(),
        unrouted: Default::default(),
        translated: Default::default(),
        remote_candidates: vec![Candidate::host(remote, PunchPort::PRIMARY)],
        families_apart: false,
        may_be_reached: false,
        rtt_via_coordinator: Duration::from_millis(80),
        local_nat: NatReport::default(),
        remote_nat: NatReport::default(),
    };
    let agent = PunchAgent::new(PunchConfig::default(), introduced, [0; 32], Instant::now());
    let parties = Parties {
        own: key.peer_id(),
        peer,
        role,
    };
    let verifier = Verifier::new(key, parties, TOKEN, &handshake).unwrap();
    let inbox = Arc::new(Inbound::new(Arc::default()))
        .expect(TOKEN.opening(role.other()), BTreeSet::from([remote]));
    let leave = handshake.withdrawing();
    let ledger = PathLedger {
        peer,
        pair_rotation: Arc::default(),
        metrics: Arc::default(),
    };
    let handover = Handover::new(role, handshake, ledger);
    let holes = Arc::new(Holes::new(Host::default()));
    let session = Session::new(agent, verifier, handover, inbox, holes);
    (session, leave)
}

/// Returns what watches a NAT of which nothing becomes known.
fn unknown_nat() -> Watcher<NatReport> {
    Watched::new(NatReport::default()).watch()
}

#[tokio::test]
async fn what_the_peer_has_left_ends_at_once() {
    let silence = Duration::from_secs(2);
    for left in [Withdrawn::Begun, Withdrawn::Silent(silence)] {
        let remote = closed();
        let (session, leave) = called_by(remote).await;
        let (handed, handing) = oneshot::channel();
        let running = session.run(Instant::now() + PATIENCE, unknown_nat(), handed);
        leave.set(Some(left));
        // The session and all its sockets have gone when this returns.
        timeout(PATIENCE / 10, running).await.unwrap();
        match handing.await.unwrap() {
            Err(SessionError::PeerLeft(report)) => assert_eq!(report.pairs[0].pair.remote, remote),
            Err(SessionError::PeerSilent(it)) => assert_eq!(it, silence),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_peer_that_is_heard_on_a_connection_is_there_until_that_ends() {
    let peer = loopback::listener();
    let (session, leave) = called_by(peer.local_addr().unwrap()).await;
    let verifier = session.verifier.clone();
    let (handed, mut handing) = oneshot::channel();
    let running = tokio::spawn(session.run(Instant::now() + PATIENCE, unknown_nat(), handed));
    let (mut open, _) = timeout(PATIENCE, peer.accept()).await.unwrap().unwrap();
    drop(peer);
    let opening = TOKEN.opening(Role::Controlling);
    open.write_all(opening.as_bytes()).await.unwrap();
    let hearing = async {
        while !verifier.hears_peer() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, hearing).await.unwrap();
    leave.set(Some(Withdrawn::Silent(PATIENCE)));
    let early = timeout(Duration::from_millis(200), &mut handing).await;
    assert!(early.is_err(), "{early:?}");

    drop(open);
    let end = timeout(PATIENCE / 10, handing).await.unwrap().unwrap();
    assert!(matches!(end, Err(SessionError::PeerSilent(_))), "{end:?}");
    running.await.unwrap();
}

/// Both ends of a handshake of which one holds another key than it should, the dialler's first,
/// when the other one has found that out.
async fn with_an_impostor(impostor: Role) -> ([SecretKey; 3], [CoordinatedHandshake; 2]) {
    let keys = [(); 3].map(|()| SecretKey::generate().unwrap());
    let [dialler, callee, other] = &keys;
    let [dials, is_called] = match impostor {
        Role::Controlling => [other, callee],
        Role::Controlled => [dialler, other],
    };
    let (mut dialling, hello) = CoordinatedHandshake::dialling(dials, callee.peer_id())
        .await
        .unwrap();
    let mut called = CoordinatedHandshake::called(is_called, dialler.peer_id(), hello).unwrap();
    wire(&mut dialling, &mut called);
    let mut progress = match impostor {
        Role::Controlling => called.progress(),
        Role::Controlled => dialling.progress(),
    };
    let failed = progress.wait_for(|it| matches!(it, Progress::Failed(_)));
    drop(timeout(PATIENCE, failed).await.unwrap().unwrap());
    (keys, [dialling, called])
}

#[tokio::test]
async fn whoever_answers_by_way_of_the_coordinator_with_another_key_is_not_the_peer() {
    for role in [Role::Controlling, Role::Controlled] {
        let ([dialler, callee, _], [dialling, called]) = with_an_impostor(role.other()).await;
        let (own, peer, handshake) = match role {
            Role::Controlling => (&dialler, &callee, dialling),
            Role::Controlled => (&callee, &dialler, called),
        };
        let (session, leave) = session(own, peer.peer_id(), role, handshake, closed());
        // That it gives up is not the peer's word.
        leave.set(Some(Withdrawn::Begun));
        let (handed, handing) = oneshot::channel();
        let running = session.run(Instant::now() + PATIENCE, unknown_nat(), handed);
        timeout(PATIENCE, running).await.unwrap();
        match handing.await.unwrap() {
            Err(SessionError::NoPath(report)) => {
                assert_eq!(report.verdict, Verdict::WrongIdentity, "{role:?}");
            }
            other => panic!("{role:?}: {other:?}"),
        }
    }
}

/// Returns why a dialler's session ends whose time is over at once.
async fn cut_off(is_answered: bool) -> SessionError {
    let [dialler, callee] = [(); 2].map(|()| SecretKey::generate().unwrap());
    let (mut dialling, hello) = CoordinatedHandshake::dialling(&dialler, callee.peer_id())
        .await
        .unwrap();
    let mut called = CoordinatedHandshake::called(&callee, dialler.peer_id(), hello).unwrap();
    if is_answered {
        wire(&mut dialling, &mut called);
        let mut progress = dialling.progress();
        let done = progress.wait_for(|it| matches!(it, Progress::Done(_)));
        drop(timeout(PATIENCE, done).await.unwrap().unwrap());
    }
    let (peer, role) = (callee.peer_id(), Role::Controlling);
    let (session, _leave) = session(&dialler, peer, role, dialling, closed());
    let (handed, handing) = oneshot::channel();
    session.run(Instant::now(), unknown_nat(), handed).await;
    handing.await.unwrap().unwrap_err()
}

#[tokio::test]
async fn a_peer_of_which_nothing_has_come_by_the_end_of_the_time_has_not_answered() {
    let end = cut_off(false).await;
    assert!(matches!(end, SessionError::PeerUnheard(_)), "{end:?}");
    let end = cut_off(true).await;
    assert!(matches!(end, SessionError::NoPath(_)), "{end:?}");
}
