//! The command is killed, in each way and at random moments.

use std::{
    process::{Command, Stdio, id},
    thread::sleep,
    time::Duration,
};

use netns_lab_rig::killing::{Victim, links};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

#[test]
fn nothing_is_left_of_a_killed_command() {
    let before = links();
    let seed = std::env::var("NETNS_LAB_KILL_SEED");
    let seed = seed.map_or_else(|_unset| u64::from(id()), |seed| seed.parse().unwrap());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let signals = ["KILL", "TERM", "INT", "HUP"].iter().cycle().take(12);
    for (number, signal) in signals.enumerate() {
        for subcommand in ["run", "shell", "matrix"] {
            let moment = random.random_range(0..300);
            let mut command = start(subcommand, number);
            // Not to wait for anything: this is the moment to kill it at.
            sleep(Duration::from_millis(moment));
            let killed = command.signal_and_check(signal, 0);
            killed.unwrap_or_else(|error| {
                panic!(
                    "{subcommand}: SIG{signal} after {moment} ms: {error:#}; \
                     NETNS_LAB_KILL_SEED={seed} replays the moments"
                )
            });
        }
    }
    assert_eq!(links(), before);
}

/// Starts the command, for longer than this test waits. All that it starts inherits the token.
fn start(subcommand: &str, number: usize) -> Victim {
    let token = format!("command-to-kill-{}-{subcommand}-{number}", id());
    let words: &[&str] = match subcommand {
        "run" => &["openwrt,public", "--host", "a", "--", "sleep", "1000"],
        "shell" => &["openwrt,public", "a"],
        _ => &["--ground", "netns", "--runs", "1000"],
    };
    // What runs in the background of a script ignores SIGINT, and so would all that it starts.
    let child = Command::new("env")
        .args(["--default-signal", env!("CARGO_BIN_EXE_netns-lab")])
        .arg(subcommand)
        .args(words)
        .env("SHELL", "/bin/sh")
        .env("NETNS_LAB_TO_KILL", &token)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Victim { child, token }
}
