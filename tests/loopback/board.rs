//! The command `board`: who is announced is found and told of, and how it ends.

use std::process::Stdio;

use p2pconnect::PeerId;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::ChildStdout,
    time::timeout,
};

use crate::commands::{LIMIT, Running, Shell};

/// Returns what a command prints, line by line.
fn lines(running: &mut Running) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(running.child.stdout.take().unwrap()).lines()
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
    line.unwrap_or_default()
}

/// Looks the topic up; returns the exit status, and what was printed.
async fn look_up(shell: &Shell, options: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["board", "lookup", "chess"], options].concat();
    let mut command = shell.command(&arguments);
    let output = timeout(LIMIT, command.stdin(Stdio::null()).output()).await;
    let output = output.unwrap().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), printed)
}

async fn announced(shell: &Shell, options: &[&str]) -> (Running, PeerId) {
    let id = shell.id().await;
    let arguments = [&["board", "announce", "chess"], options].concat();
    let mut announcing = shell.start(&arguments);
    announcing.wait_for("is on the board").await;
    (announcing, id)
}

#[tokio::test]
async fn who_is_announced_is_found_until_told_to_end() {
    let shell = Shell::new();
    let other = Shell::beside(&shell);
    assert_eq!(look_up(&other, &[]).await, (Some(3), String::new()));
    let (announcing, id) = announced(&shell, &[]).await;
    assert_eq!(look_up(&other, &[]).await, (Some(0), format!("{id}\n")));
    // A secret makes another topic of it.
    let (status, _) = look_up(&other, &["--secret", "x"]).await;
    assert_eq!(status, Some(3));
    let (status, printed) = look_up(&other, &["--all", "--json"]).await;
    let found = serde_json::json!({ "event": "found", "peer": id.to_string() });
    assert_eq!((status, printed), (Some(0), format!("{found}\n")));
    announcing.signal("TERM").await;
    let (status, said) = announcing.end().await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(look_up(&other, &[]).await.0, Some(3));
}

#[tokio::test]
async fn who_watches_is_told_who_is_there_and_who_comes_and_goes() {
    let shell = Shell::new();
    let [watcher, other] = [Shell::beside(&shell), Shell::beside(&shell)];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "between us\n").unwrap();
    let secret = ["--secret-file", file.to_str().unwrap()];
    let (_first, id) = announced(&shell, &secret).await;
    let arguments = [&["board", "watch", "chess"], &secret[..]].concat();
    let mut watching = watcher.start(&arguments);
    let mut told = lines(&mut watching);
    assert_eq!(next(&mut told).await, format!("here {id}"));
    let (second, other_id) = announced(&other, &["--secret", "between us"]).await;
    assert_eq!(next(&mut told).await, format!("joined {other_id}"));
    second.signal("INT").await;
    assert_eq!(next(&mut told).await, format!("left {other_id}"));
    watching.signal("INT").await;
    let (status, said) = watching.end().await;
    assert_eq!(status.code(), Some(0), "{said}");
}

#[tokio::test]
async fn a_topic_that_makes_no_sense_is_wrong_usage() {
    let shell = Shell::new();
    for arguments in [
        &["board", "watch", ""][..],
        &["board", "watch", "chess", "--secret", ""],
        &["board", "watch", "chess", "--secret-file", "/nowhere"],
    ] {
        let (status, said) = shell.start(arguments).end().await;
        assert_eq!(status.code(), Some(2), "{said}");
    }
}
