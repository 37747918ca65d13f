//! The command, as its users meet it.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod captures;
mod documented;
mod killed;
mod programs;
mod scenarios;
mod texts;

use std::process::{Command, Output};

/// Runs the command with words and takes what it says.
fn netns_lab(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netns-lab"))
        .args(words)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the command, which must succeed, and returns what it says.
fn said(words: &[&str]) -> String {
    let output = netns_lab(words);
    let error = text(&output.stderr);
    assert!(output.status.success(), "{words:?}: {error}");
    text(&output.stdout)
}

/// Runs the command, which must refuse, and returns why.
fn refused(words: &[&str]) -> String {
    let output = netns_lab(words);
    assert_eq!(output.status.code(), Some(2), "{words:?}");
    text(&output.stderr)
}
