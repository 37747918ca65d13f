//! Peers and strangers that break the protocol between peers.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use p2pconnect::{DialError, DialPolicy, Endpoint, SecretKey};
use p2pconnect_proto::{Role, SessionToken};
use p2pconnect_tests::{
    program::p2pconnect,
    rogue::{Impostor, RogueCoordinator},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::spawn_blocking,
    time::timeout,
};

use crate::world::{World, address_of, assert_carries};

/// What somebody might send who does not know the protocol, or knows it too well.
fn garbage() -> Vec<Vec<u8>> {
    let mut stun_with_huge_length = vec![0x00, 0x01, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42];
    stun_with_huge_length.extend([0; 64]);
    vec![
        Vec::new(),
        vec![0],
        vec![0xff; 16],
        b"GET / HTTP/1.1\r\nHost: example\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not quite a ClientHello".to_vec(),
        stun_with_huge_length,
        vec![0xa5; 100_000],
    ]
}

#[tokio::test]
async fn an_impostor_is_found_out() {
    let world = World::start();
    let impostor = Impostor::start().await;
    let rogue = RogueCoordinator::start(world.stun, vec![impostor.address]);
    let address = address_of(rogue.id, rogue.address);
    let dialler = Endpoint::builder()
        .coordinator(address)
        .bind()
        .await
        .unwrap();
    let victim = SecretKey::generate().unwrap().peer_id();
    let dialling = timeout(Duration::from_secs(5), dialler.dial(victim));
    let error = dialling.await.unwrap().unwrap_err();
    assert!(matches!(error, DialError::WrongIdentity(_)), "{error:?}");
}

#[tokio::test]
async fn the_command_tells_an_impostor_by_status_7() {
    let world = World::start();
    let impostor = Impostor::start().await;
    let rogue = RogueCoordinator::start(world.stun, vec![impostor.address]);
    let keys = tempfile::tempdir().unwrap();
    let victim = SecretKey::generate().unwrap().peer_id();
    let mut dial = Command::new(p2pconnect());
    dial.args(["dial", &victim.to_string()])
        .args([
            "--coordinator",
            &address_of(rogue.id, rogue.address).to_string(),
            "--key",
        ])
        .arg(keys.path().join("key.pem"))
        .stdin(Stdio::null());
    let output = spawn_blocking(move || dial.output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("holds another key"), "{said}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn garbage_on_every_port_disturbs_nobody() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    let (mut here, mut there) = World::connect(&dialler, &listener).await;

    // The listener's punch port is the local port of what it accepted or connected.
    let punch_ports = [there.path().local, here.path().local];
    let udp = world.coordinator.local_addr();
    let mut held = Vec::new();
    let mut at_servers = Vec::new();
    for bytes in garbage() {
        for port in punch_ports {
            held.extend(throw(port, &bytes).await);
        }
        at_servers.extend(throw(world.stun, &bytes).await);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let datagram = &bytes[..bytes.len().min(1200)];
        socket.send_to(datagram, udp).await.unwrap();
    }

    // With the garbage connections still open: new peers come, and the stream goes on.
    assert!(!at_servers.is_empty());
    let another = world.dialler().await;
    World::connect(&another, &listener).await;
    assert_carries(&mut here, &mut there, b"undisturbed").await;
    assert_carries(&mut there, &mut here, b"both ways").await;

    for mut stream in held {
        // Closed without an answer; how depends on how far the garbage was read.
        let mut answer = Vec::new();
        let reading = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer));
        assert!(reading.await.is_ok(), "a stranger is kept");
        assert!(answer.is_empty(), "a stranger is answered");
    }
}

/// Sends bytes to a TCP port and returns the connection, if the other side still has it.
async fn throw(port: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(port).await.ok()?;
    stream.write_all(bytes).await.ok()?;
    Some(stream)
}

#[tokio::test]
async fn a_coordinator_does_not_choose_what_a_listener_writes_to_others() {
    const COMMANDS: [u8; 16] = *b"FLUSHALL\r\nPING\r\n";

    let world = World::start();
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialler = SecretKey::generate().unwrap().peer_id();
    let candidates = vec![service.local_addr().unwrap()];
    let rogue = RogueCoordinator::calling(world.stun, dialler, COMMANDS, candidates);
    let _listener = Endpoint::builder()
        .coordinator(address_of(rogue.id, rogue.address))
        .allow(DialPolicy::Only(vec![dialler]))
        .bind()
        .await
        .unwrap();

    let (mut stream, _) = timeout(Duration::from_secs(10), service.accept())
        .await
        .unwrap()
        .unwrap();
    let mut heard = [0; COMMANDS.len()];
    timeout(Duration::from_secs(10), stream.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    let opening = SessionToken::from_bytes(COMMANDS).opening(Role::Controlled);
    assert_eq!(heard, *opening.as_bytes());
    assert!(
        !heard
            .windows(4)
            .any(|it| COMMANDS.windows(4).any(|word| it == word))
    );
}
