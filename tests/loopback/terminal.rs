//! What somebody at a terminal sees.

use tokio::{process::Command, time::timeout};

use crate::commands::{LIMIT, Shell};

/// Runs the command on a terminal of its own; returns all that is seen there.
async fn seen(shell: &Shell, arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_p2pconnect-under-test");
    let mut command = Command::new("script");
    command
        .args(["-qec", &format!("{program} {arguments}"), "/dev/null"])
        .env_remove("RUST_LOG")
        .kill_on_drop(true);
    let output = shell.at_home(&mut command).output();
    let output = timeout(LIMIT, output).await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_terminal_shows_what_was_asked_for_and_nothing_else() {
    let shell = Shell::new();
    let id = shell.id().await;
    assert_eq!(seen(&shell, "id").await, format!("{id}\r\n"));
    assert_eq!(seen(&shell, &format!("dial --quiet {id}")).await, "");
    let said = seen(&shell, &format!("dial --json {id}")).await;
    for line in said.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(object["event"].is_string(), "{line}");
    }
    assert!(!said.is_empty());
}
