//! A peer that goes away after it has ended its bytes, while this side's input goes on.

use std::time::Duration;

use p2pconnect::Connection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::ChildStdin,
    time::timeout,
};

use crate::commands::{LIMIT, Running, Shell};

/// A command whose peer has ended its bytes, and the way into its stdin, which stays open.
struct Ended {
    running: Running,
    stdin: ChildStdin,
}

/// What the peer is for the command.
#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Listener,
    Dialler,
}

/// Waits until a command has handed over all that its peer has sent.
async fn ended(mut running: Running, wanted: &[u8]) -> Ended {
    let stdin = running.child.stdin.take().unwrap();
    let mut heard = Vec::new();
    let mut stdout = running.child.stdout.take().unwrap();
    let reading = timeout(LIMIT, stdout.read_to_end(&mut heard)).await;
    reading.expect("stdout stays open").unwrap();
    assert_eq!(heard, wanted);
    Ended { running, stdin }
}

impl Ended {
    async fn assert_notices(self, peer: Peer) {
        let (status, said) = self.running.end().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("went away, and has not confirmed"), "{said}");
        // Nobody dials for a service.
        let has_service = said.contains("or the service behind it");
        assert_eq!(has_service, peer == Peer::Listener, "{said}");
    }
}

/// Ends the bytes of a connection.
async fn end_bytes(there: &mut Connection) {
    there.write_all(b"all there is").await.unwrap();
    there.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_dial_ends_when_its_peer_is_gone_though_stdin_goes_on() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    for leaving in [
        |there: Connection| drop(there),
        |there: Connection| there.abort(),
    ] {
        let dial = shell.start(&["dial", &listener.peer_id().to_string()]);
        let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        end_bytes(&mut there).await;
        let ended = ended(dial, b"all there is").await;
        leaving(there);
        ended.assert_notices(Peer::Listener).await;
    }
}

#[tokio::test]
async fn a_listener_ends_when_its_peer_is_gone_though_stdin_goes_on() {
    let shell = Shell::new();
    let peer = shell.id().await;
    let mut listen = shell.start(&["listen", "--allow-any"]);
    listen.wait_for("can be dialled").await;
    let dialler = shell.world.dialler().await;
    let mut there = dialler.dial(peer).await.unwrap();
    end_bytes(&mut there).await;
    let ended = ended(listen, b"all there is").await;
    drop(there);
    ended.assert_notices(Peer::Dialler).await;
}

#[tokio::test]
async fn a_dial_ends_when_its_peer_is_killed_after_its_end() {
    let shell = Shell::new();
    let peer = shell.id().await.to_string();
    let mut listen = shell.start(&["listen", "--allow-any"]);
    drop(listen.child.stdin.take());
    listen.wait_for("can be dialled").await;
    let other = Shell::beside(&shell);
    let mut ended = ended(other.start(&["dial", &peer]), b"").await;
    ended.stdin.write_all(b"one byte or more").await.unwrap();
    let mut output = listen.child.stdout.take().unwrap();
    output.read_exact(&mut [0; 16]).await.unwrap();
    listen.signal("KILL").await;
    ended.assert_notices(Peer::Listener).await;
}

/// Starts a peer, kills it, and returns its id.
async fn killed(shell: &Shell) -> String {
    let peer = shell.id().await.to_string();
    let mut listen = shell.start(&["listen", "--allow-any"]);
    listen.wait_for("can be dialled").await;
    listen.signal("KILL").await;
    peer
}

#[tokio::test]
async fn a_dial_to_a_peer_that_was_killed_before_says_what_it_waits_for() {
    let shell = Shell::new();
    let [callee, other] = [Shell::beside(&shell), Shell::beside(&shell)];
    let peer = killed(&shell).await;
    // The coordinator has not noticed yet. The first introduction may be left for another one.
    let (status, said) = other.start(&["dial", "--wait=3s", &peer]).end().await;
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("the peer has gone without a word"), "{said}");
    // It would notice sooner of the same one.
    let mut dial = other.start(&["dial", &killed(&callee).await]);
    dial.wait_for("no connection to the peer yet").await;
    let (status, said) = dial.end().await;
    assert_eq!(status.code(), Some(3), "{said}");
}

#[tokio::test]
async fn a_peer_that_has_ended_and_reads_on_is_there() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let dial = shell.start(&["dial", &listener.peer_id().to_string()]);
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    end_bytes(&mut there).await;
    let Ended { running, mut stdin } = ended(dial, b"all there is").await;
    let mut word = [0; 4];
    for _ in 0..3 {
        // Looks at the connection come in between.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stdin.write_all(b"word").await.unwrap();
        timeout(LIMIT, there.read_exact(&mut word))
            .await
            .unwrap()
            .unwrap();
    }
    drop(stdin);
    assert_eq!(there.read(&mut word).await.unwrap(), 0);
    let (finished, (status, said)) = tokio::join!(there.finish(), running.end());
    finished.unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
}
