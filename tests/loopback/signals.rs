//! What programs hear of a command that a signal has ended.

use p2pconnect::SecretKey;
use tokio::{io::AsyncReadExt as _, time::timeout};

use crate::commands::{LIMIT, Running, Shell, program};

/// Sends a signal to a command, which has to end for it with a last word that names it.
async fn assert_is_interrupted(running: Running, signal: &str) {
    running.signal(signal).await;
    let (status, said) = running.end().await;
    assert_eq!(status.code(), Some(130), "{said}");
    let last = said.lines().last().unwrap_or_default();
    let last: serde_json::Value = serde_json::from_str(last).unwrap_or_default();
    assert_eq!(last["event"], "failed", "{signal}: {said}");
    assert_eq!(last["status"], 130, "{last}");
    let reason = last["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("SIG{signal}")), "{reason}");
}

#[tokio::test]
async fn a_dial_that_is_interrupted_before_it_has_a_stream_has_failed() {
    let shell = Shell::new();
    let nobody = SecretKey::generate().unwrap().peer_id().to_string();
    for signal in ["INT", "TERM", "HUP"] {
        let mut dial = shell.start(&["dial", "--json", "--wait", "1h", &nobody]);
        dial.wait_for("\"waiting\"").await;
        assert_is_interrupted(dial, signal).await;
    }
}

#[tokio::test]
async fn a_dial_that_is_interrupted_while_it_has_a_stream_has_failed() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    for signal in ["INT", "TERM", "HUP"] {
        let mut dial = shell.start(&["dial", "--json", &listener.peer_id().to_string()]);
        let _there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        dial.wait_for("\"established\"").await;
        assert_is_interrupted(dial, signal).await;
    }
}

#[tokio::test]
async fn a_listener_that_is_interrupted_before_its_stream_has_failed() {
    let shell = Shell::new();
    for signal in ["INT", "TERM", "HUP"] {
        let mut listen = shell.start(&["listen", "--json", "--allow-any"]);
        listen.wait_for("\"registered\"").await;
        assert_is_interrupted(listen, signal).await;
    }
}

#[tokio::test]
async fn a_server_ends_by_being_told_to() {
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key.pem").display().to_string();
    let serve = ["serve", "--listen=127.0.0.1:0", "--stun=127.0.0.1:0"];
    for signal in ["INT", "TERM"] {
        let mut command = program();
        command.args(serve).args(["--key", &key]);
        let mut serve = Shell::spawn(command);
        let mut stdout = serve.child.stdout.take().unwrap();
        // It has said where it listens.
        let heard = timeout(LIMIT, stdout.read_exact(&mut [0; 1])).await;
        heard.unwrap().unwrap();
        serve.signal(signal).await;
        let (status, said) = serve.end().await;
        assert_eq!(status.code(), Some(0), "{signal}: {said}");
    }
}

/// Who has pressed Ctrl-C knows.
#[tokio::test]
async fn people_are_not_told_that_they_have_ended_a_command() {
    let shell = Shell::new();
    let nobody = SecretKey::generate().unwrap().peer_id().to_string();
    let mut dial = shell.start(&["dial", "--wait", "1h", &nobody]);
    dial.wait_for("waiting:").await;
    dial.signal("INT").await;
    let (status, said) = dial.end().await;
    assert_eq!(status.code(), Some(130));
    assert!(!said.contains("failed") && !said.contains("SIG"), "{said}");
}
