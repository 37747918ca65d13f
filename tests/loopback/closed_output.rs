//! Output that nobody takes: what a pipe's reader that has left, and a full disk, make of the
//! command.

use std::{
    fs::File,
    process::{ExitStatus, Stdio},
};

use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::commands::{LIMIT, Shell, program};

/// What a shell says of a program that SIGPIPE has ended.
const READER_LEFT: i32 = 141;

/// Returns a pipe whose reader has left.
fn abandoned() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

/// Dials a peer that has something to say; returns how the command ends whose stdout is this, and
/// what it says from when there is a stream.
async fn dial_into(stdout: Stdio, options: &[&str]) -> (ExitStatus, String) {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let peer = listener.peer_id().to_string();
    let mut command = shell.command(&[&["dial", &peer][..], options].concat());
    command.stdout(stdout);
    let mut dial = Shell::spawn(command);
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let is_json = options.contains(&"--json");
    dial.wait_for(if is_json {
        "established"
    } else {
        "direct stream"
    })
    .await;
    there.write_all(b"for nobody").await.unwrap();
    dial.end().await
}

#[tokio::test]
async fn a_reader_that_has_left_ends_a_dial_without_noise_and_not_as_done() {
    let (status, said) = dial_into(abandoned(), &[]).await;
    assert_eq!((status.code(), &*said), (Some(READER_LEFT), ""));
    let (status, said) = dial_into(abandoned(), &["--json"]).await;
    assert_eq!(status.code(), Some(READER_LEFT), "{said}");
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "failed", "{said}");
    assert_eq!(last["status"], READER_LEFT, "{said}");
}

#[tokio::test]
async fn a_stream_into_a_full_disk_is_said_to_be_that() {
    let (status, said) = dial_into(full(), &[]).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.ends_with("stdout takes no more: No space left on device\n"),
        "{said}"
    );
}

/// What says something on stdout that is no stream.
const SPEAKERS: [&[&str]; 4] = [
    &["id"],
    &["--help"],
    &["--version"],
    &["serve", "--listen=127.0.0.1:0", "--stun=127.0.0.1:0"],
];

/// Runs a command whose stdout is this to its end, and returns its status and what it says on
/// stderr.
async fn run(arguments: &[&str], stdout: Stdio) -> (Option<i32>, String) {
    let keys = tempfile::tempdir().unwrap();
    let mut command = program();
    command
        .args(arguments)
        .env("P2PCONNECT_KEY", keys.path().join("key"))
        .env("P2PCONNECT_COORDINATOR_KEY", keys.path().join("other"));
    let child = command.stdout(stdout).spawn().unwrap();
    // It has a copy of the file.
    drop(command);
    let output = timeout(LIMIT, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test]
async fn a_reader_that_has_left_hears_nothing_of_what_was_printed() {
    for arguments in SPEAKERS {
        let (status, said) = run(arguments, abandoned()).await;
        assert_eq!(status, Some(READER_LEFT), "{arguments:?}: {said}");
        assert!(!said.contains("stdout"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn what_cannot_be_printed_is_said_with_the_reason() {
    for arguments in SPEAKERS {
        let (status, said) = run(arguments, full()).await;
        assert_eq!(status, Some(1), "{arguments:?}: {said}");
        let reason = "error: stdout cannot be written: No space left on device\n";
        assert!(said.ends_with(reason), "{arguments:?}: {said}");
    }
}
