//! What somebody at a terminal sees.

use std::process::Stdio;

use p2pconnect::{Connection, Endpoint};
use p2pconnect_tests::program::p2pconnect;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};

use crate::commands::{LIMIT, Shell};

/// What is typed to end one's own side.
const CTRL_D: &[u8] = b"\x04";

/// Returns what runs the command on a terminal of its own.
fn on_a_terminal(shell: &Shell, arguments: &str) -> Command {
    let program = p2pconnect();
    let mut command = Command::new("script");
    command
        .args(["-qec", &format!("{program} {arguments}"), "/dev/null"])
        .env_remove("RUST_LOG")
        .kill_on_drop(true);
    shell.at_home(&mut command);
    command
}

/// Runs the command on a terminal of its own; returns all that is seen there.
async fn seen(shell: &Shell, arguments: &str) -> String {
    let output = on_a_terminal(shell, arguments).output();
    let output = timeout(LIMIT, output).await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_terminal_shows_what_was_asked_for_and_nothing_else() {
    let shell = Shell::new();
    let id = shell.id().await;
    assert_eq!(seen(&shell, "id").await, format!("{id}\r\n"));
    let nobody = Shell::beside(&shell).id().await;
    assert_eq!(seen(&shell, &format!("dial --quiet {nobody}")).await, "");
    // What is wrong with the command line has to be seen.
    let own = seen(&shell, &format!("dial --quiet {id}")).await;
    assert!(own.contains("this machine's own"), "{own}");
    let said = seen(&shell, &format!("dial --json {id}")).await;
    for line in said.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(object["event"].is_string(), "{line}");
    }
    assert!(!said.is_empty());
}

/// Dials a listener from a terminal, and ends the listener's side with some words.
async fn told_all(shell: &Shell, listener: &Endpoint, options: &str) -> (Child, Connection) {
    let arguments = format!("dial {options} {}", listener.peer_id());
    let mut command = on_a_terminal(shell, &arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let dial = command.spawn().unwrap();
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    there.write_all(b"all there is").await.unwrap();
    there.shutdown().await.unwrap();
    (dial, there)
}

/// Reads what is seen on a terminal until these words are.
async fn wait_to_see(dial: &mut Child, words: &str) {
    let stdout = dial.stdout.as_mut().unwrap();
    let mut seen = String::new();
    let searching = async {
        while !seen.contains(words) {
            let byte = stdout.read_u8().await.unwrap();
            seen.push(char::from(byte));
        }
    };
    let found = timeout(LIMIT, searching).await;
    assert!(found.is_ok(), "no {words}: {seen:?}");
}

#[tokio::test]
async fn whoever_types_is_told_that_the_peer_has_ended() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let told = "the peer has sent everything; Ctrl-D ends this side";
    for options in ["", "--quiet"] {
        let (mut dial, mut there) = told_all(&shell, &listener, options).await;
        wait_to_see(&mut dial, "all there is").await;
        if options.is_empty() {
            wait_to_see(&mut dial, told).await;
        }
        let stdin = dial.stdin.as_mut().unwrap();
        stdin.write_all(CTRL_D).await.unwrap();
        assert_eq!(there.read(&mut [0]).await.unwrap(), 0);
        let (finished, ended) = tokio::join!(there.finish(), dial.wait_with_output());
        finished.unwrap();
        let ended = ended.unwrap();
        assert!(ended.status.success(), "{ended:?}");
        let rest = String::from_utf8(ended.stdout).unwrap();
        assert!(!rest.contains("the peer"), "{rest:?}");
    }
}

/// Nobody is there to end a stream by hand.
#[tokio::test]
async fn a_program_that_is_fed_by_another_is_told_nothing() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let mut dial = shell.start(&["dial", &listener.peer_id().to_string()]);
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    dial.wait_for("direct stream").await;
    there.shutdown().await.unwrap();
    let mut stdout = dial.child.stdout.take().unwrap();
    stdout.read_to_end(&mut Vec::new()).await.unwrap();
    drop(dial.child.stdin.take());
    assert_eq!(there.read(&mut [0]).await.unwrap(), 0);
    let (finished, (status, said)) = tokio::join!(there.finish(), dial.end());
    finished.unwrap();
    assert!(status.success(), "{said}");
    assert_eq!(said, "");
}

/// A program that reads what happens is told this too.
#[tokio::test]
async fn the_end_of_a_peers_bytes_is_an_event() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let mut dial = shell.start(&["dial", "--json", &listener.peer_id().to_string()]);
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    there.shutdown().await.unwrap();
    dial.wait_for("\"peer-ended\"").await;
}

/// Tells whether a process goes on; one whose end nobody has asked for does not.
fn goes_on(process: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.trim()));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

#[tokio::test]
async fn a_server_ends_with_the_terminal_that_it_was_started_in() {
    let directory = tempfile::tempdir().unwrap();
    let [key, process] = ["key.pem", "process"].map(|it| directory.path().join(it));
    let started = format!(
        "echo $$ >'{}'; exec env --default-signal=HUP {} serve --listen=127.0.0.1:0 --stun=127.0.0.1:0 --key='{}'",
        process.display(),
        p2pconnect(),
        key.display()
    );
    let mut terminal = Command::new("script")
        .args(["-qec", &started, "/dev/null"])
        .env("RUST_LOG", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    wait_to_see(&mut terminal, "stun: ").await;
    let process = std::fs::read_to_string(process).unwrap();
    assert!(goes_on(&process));
    terminal.kill().await.unwrap();
    let ended = async {
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(1));
        while goes_on(&process) {
            pause.tick().await;
        }
    };
    timeout(LIMIT, ended).await.unwrap();
}
