//! Coordinators and peers that cannot be reached.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use p2pconnect::{
    BindError, CoordinatorError, DialError, DialPolicy, Endpoint, PeerId, SecretKey, Status,
};
use p2pconnect_proto::TokenKey;
use p2pconnect_stun::{StunServer, StunServerConfig};
use p2pconnect_tests::{program::p2pconnect, rogue::RogueCoordinator};
use tokio::{
    net::{TcpListener, UdpSocket},
    process::Command,
    sync::mpsc,
    task::yield_now,
    time::timeout,
};

use crate::{
    commands::Shell,
    world::{World, address_of, alone, assert_carries},
};

#[tokio::test]
async fn a_coordinator_with_another_key_is_told_apart() {
    let world = World::start();
    let expected = SecretKey::generate().unwrap().peer_id();
    let address = address_of(expected, world.coordinator.local_addr());
    let error = Endpoint::builder()
        .coordinator(address)
        .bind()
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            BindError::Coordinator(CoordinatorError::WrongIdentity { .. })
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_coordinators_id_with_a_slip_of_the_pen_is_pointed_out() {
    let world = World::start();
    let id = world.coordinator.server_id().to_string();
    let first = if id.starts_with('x') { 'y' } else { 'x' };
    let mistyped = format!("{first}{}", &id[1..]).parse().unwrap();
    let address = address_of(mistyped, world.coordinator.local_addr());
    let binding = Endpoint::builder().coordinator(address).bind();
    let BindError::Coordinator(error) = binding.await.unwrap_err() else {
        panic!("not the coordinator's fault");
    };
    let error = error.to_string();
    assert!(error.contains(&id), "{error}");
    assert!(error.contains("slip of the pen"), "{error}");
}

#[tokio::test]
async fn a_silent_coordinator_is_given_up() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let id = SecretKey::generate().unwrap().peer_id();
    let address = address_of(id, silent.local_addr().unwrap());
    let binding = Endpoint::builder().coordinator(address).bind();
    let error = timeout(Duration::from_secs(15), binding)
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(
            error,
            BindError::Coordinator(CoordinatorError::Unreachable { .. })
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_machine_without_a_network_is_not_blamed_on_the_coordinator() {
    let [server, peer] = [1, 2].map(|byte| PeerId::from_public_key([byte; 32]));
    let coordinator = format!("{server}@203.0.113.3:4433");
    let keys = tempfile::tempdir().unwrap();
    // A network namespace begins without addresses and routes.
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--map-root-user", &p2pconnect()])
        .args(["dial", "--coordinator", &coordinator, &peer.to_string()])
        .env("XDG_CONFIG_HOME", keys.path())
        .env_remove("P2PCONNECT_KEY")
        .kill_on_drop(true);
    let output = timeout(Duration::from_secs(30), command.output());
    let output = output.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(
        said.contains("has no way to the coordinator at 203.0.113.3:4433"),
        "{said}"
    );
}

#[tokio::test]
async fn a_host_name_without_address_is_named() {
    let id = SecretKey::generate().unwrap().peer_id();
    let address = format!("{id}@no-such-host.invalid:4433").parse().unwrap();
    let error = Endpoint::builder()
        .coordinator(address)
        .bind()
        .await
        .unwrap_err();
    assert!(
        matches!(&error, BindError::Coordinator(CoordinatorError::Resolve { host, .. })
            if host == "no-such-host.invalid"),
        "{error:?}"
    );
}

#[test]
fn a_closed_stun_port_is_named() {
    alone(async || {
        let closed = closed_port().await;
        let world = World::start_with_stun_at(closed).await;
        let listening = world.builder().allow(DialPolicy::Anyone).bind();
        let error = listening.await.unwrap_err();
        assert!(matches!(error, BindError::Stun { .. }), "{error}");

        // Who only dials does not wait for it, and is told the same whether it is certain by then
        // or not.
        let dialler = world.dialler().await;
        let nobody = SecretKey::generate().unwrap().peer_id();
        for is_certain in [false, true] {
            if is_certain {
                until_no_stun_server_answers(&world).await;
            }
            let error = dialler.dial(nobody).await.unwrap_err();
            assert!(matches!(error, DialError::Unavailable { .. }), "{error}");
        }
    });
}

/// Waits until an endpoint is certain that no STUN server answers: those that were bound before are
/// certain then as well.
async fn until_no_stun_server_answers(world: &World) {
    let listening = world.builder().allow(DialPolicy::Anyone).bind();
    let error = timeout(Duration::from_secs(15), listening).await.unwrap();
    assert!(matches!(error, Err(BindError::Stun { .. })), "{error:?}");
}

#[test]
fn a_listener_without_a_stun_server_blames_nobody_else() {
    alone(async || {
        let shell = Shell::of(World::start_with_stun_at(closed_port().await).await);
        let mut listen = shell.start(&["listen", "--allow-any"]);
        let said = listen.wait_for("waiting: no STUN server tells").await;
        assert!(!said.contains("coordinator"), "{said}");
        assert!(said.ends_with("is TCP to it open?"), "{said}");
    });
}

#[test]
fn who_reaches_no_stun_server_reaches_a_peer_that_needs_none() {
    alone(async || {
        let mut world = World::start();
        let listener = world.listener().await;
        world.close_stun().await;
        let dialler = world.dialler().await;
        until_no_stun_server_answers(&world).await;
        let mut here = dialler.dial(listener.peer_id()).await.unwrap();
        let mut there = listener.accept().await.unwrap();
        assert_carries(&mut here, &mut there, b"without a mapping").await;
    });
}

#[tokio::test]
async fn a_dial_after_the_coordinator_went_says_so_in_time() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    world.coordinator.shutdown().await;
    let limit = Duration::from_secs(2);
    let error = dialler
        .dial_within(listener.peer_id(), limit)
        .await
        .unwrap_err();
    assert!(
        matches!(error, DialError::TimedOut | DialError::Coordinator(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_builder_without_coordinator_says_what_is_missing() {
    let error = Endpoint::builder().bind().await.unwrap_err();
    assert!(matches!(error, BindError::NoCoordinator), "{error:?}");
}

#[tokio::test]
async fn a_coordinator_that_falls_silent_hides_no_evidence() {
    let world = World::start();
    let rogue = RogueCoordinator::answering(1, world.stun, vec![closed_port().await]);
    let address = address_of(rogue.id, rogue.address);
    let dialler = Endpoint::builder()
        .coordinator(address)
        .bind()
        .await
        .unwrap();
    let peer = SecretKey::generate().unwrap().peer_id();
    let error = dialler
        .dial_within(peer, Duration::from_secs(7))
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::NoDirectPath(_)), "{error:?}");
}

#[tokio::test]
async fn a_coordinator_with_another_token_key_is_told_the_next_token() {
    // Another server's connections may keep its port for a moment: the caller bounds the wait.
    let server = async |address, key| loop {
        let mut config = StunServerConfig::default();
        config.token_key = Some(TokenKey::from_bytes(key));
        match StunServer::bind(&[address], config) {
            Ok(server) => return server,
            Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    // An address of its own: other tests' connections take free ports of the usual one at any
    // moment. A server that is given its port leaves it to the next one at once.
    let limit = Duration::from_secs(20);
    let any = server(([127, 0, 0, 9], 0).into(), [0; 32]).await;
    let address = any.local_addrs()[0];
    drop(any);
    let before = timeout(limit, server(address, [1; 32])).await.unwrap();
    let before = before.spawn();
    let mut rogue = RogueCoordinator::start(address, Vec::new());
    let (sender, mut statuses) = mpsc::unbounded_channel();
    let listener = Endpoint::builder()
        .coordinator(address_of(rogue.id, rogue.address))
        .allow(DialPolicy::Anyone)
        .observer(move |status| drop(sender.send(status)))
        .bind()
        .await
        .unwrap();
    let told_anew = async {
        // Nothing else makes it register from here on.
        while !matches!(statuses.recv().await, Some(Status::NatFound { .. })) {}
        let mut first = rogue.registrations.recv().await.unwrap();
        while let Ok(newer) = rogue.registrations.try_recv() {
            first = newer;
        }
        before.shutdown().await;
        let _after = server(address, [2; 32]).await.spawn();
        while let Some(next) = rogue.registrations.recv().await {
            if next.candidates[0].token != first.candidates[0].token {
                return;
            }
        }
        panic!("the endpoint has ended");
    };
    timeout(limit, told_anew).await.unwrap();
    drop(listener);
}

/// A dialler that a coordinator introduces, once, to a peer that nobody can reach.
async fn misled(
    world: &World,
    statuses: mpsc::UnboundedSender<Status>,
) -> (RogueCoordinator, Endpoint) {
    let rogue = RogueCoordinator::answering(1, world.stun, vec![closed_port().await]);
    let dialler = Endpoint::builder()
        .coordinator(address_of(rogue.id, rogue.address))
        .observer(move |status| drop(statuses.send(status)))
        .bind()
        .await
        .unwrap();
    (rogue, dialler)
}

/// Asserts that the peer is told that the one introduction is given up.
async fn assert_says_farewell(rogue: &mut RogueCoordinator) {
    let limit = Duration::from_secs(20);
    let flight = timeout(limit, rogue.flights.recv()).await.unwrap().unwrap();
    assert!(flight.bytes.is_empty());
    assert!(rogue.flights.try_recv().is_err(), "once is enough");
}

#[tokio::test]
async fn a_peer_hears_that_a_dial_has_failed() {
    let world = World::start();
    let (sender, _statuses) = mpsc::unbounded_channel();
    let (mut rogue, dialler) = misled(&world, sender).await;
    let peer = SecretKey::generate().unwrap().peer_id();
    let limit = Duration::from_secs(2);
    let began = Instant::now();
    let error = dialler.dial_within(peer, limit).await.unwrap_err();
    assert!(matches!(error, DialError::PeerUnheard(_)), "{error:?}");
    // The coordinator, which is silent by now, holds nobody up.
    assert!(began.elapsed() < limit + Duration::from_secs(4));
    assert_says_farewell(&mut rogue).await;
}

#[tokio::test]
async fn a_peer_hears_that_a_dial_is_dropped() {
    let world = World::start();
    let (sender, mut statuses) = mpsc::unbounded_channel();
    let (mut rogue, dialler) = misled(&world, sender).await;
    let peer = SecretKey::generate().unwrap().peer_id();
    {
        let introduced = async {
            while let Some(status) = statuses.recv().await {
                if matches!(status, Status::Punching { .. }) {
                    return;
                }
            }
        };
        tokio::select! {
            result = dialler.dial(peer) => panic!("{result:?}"),
            () = introduced => {}
        }
    }
    assert_says_farewell(&mut rogue).await;
}

/// Returns an address that refuses connections.
async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}
