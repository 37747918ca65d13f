//! Runs this program on the hosts of the demo's lab, and reads what it says.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use anyhow::Context as _;
use netns_lab::Host;
use serde_json::Value;

/// How long any step may take before the demo gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts this very program on a host of the lab, with its key in memory-backed private files.
pub(super) fn command(host: &Host, arguments: &[&str]) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("this program's file is not known")?;
    let mut command = host.command(program);
    command
        .args(arguments)
        .env_remove("P2PCONNECT_KEY")
        .env_remove("P2PCONNECT_COORDINATOR");
    Ok(command)
}

/// A `p2pconnect` on a host, whose status lines are read as they come.
pub(super) struct Process {
    child: Child,
    events: Receiver<Value>,
}

impl Process {
    /// Starts a peer; each status that it reports is told to `narrate` at once.
    pub(super) fn spawn(
        mut command: Command,
        narrate: impl Fn(&Value) + Send + 'static,
    ) -> anyhow::Result<(Self, ChildStdin, ChildStdout)> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("a peer cannot be started")?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            anyhow::bail!("a peer was started without its streams");
        };
        let (sender, events) = channel();
        std::thread::spawn(move || read_events(BufReader::new(stderr), &sender, narrate));
        Ok((Self { child, events }, stdin, stdout))
    }

    /// Waits for an event.
    pub(super) fn wait_for(&self, event: &str) -> anyhow::Result<Value> {
        loop {
            let value = self
                .events
                .recv_timeout(PATIENCE)
                .with_context(|| format!("a peer did not get as far as '{event}'"))?;
            if value["event"] == event {
                return Ok(value);
            }
            if value["event"] == "failed" {
                anyhow::bail!("a peer failed: {}", value["reason"].as_str().unwrap_or("?"));
            }
        }
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        let status = self.child.wait().context("a peer cannot be waited for")?;
        anyhow::ensure!(status.success(), "a peer ended with {status}");
        Ok(())
    }
}

fn read_events(lines: impl BufRead, events: &Sender<Value>, narrate: impl Fn(&Value)) {
    for line in lines.lines().map_while(Result::ok) {
        let value = serde_json::from_str(&line)
            .unwrap_or_else(|_| serde_json::json!({ "event": "failed", "reason": line }));
        narrate(&value);
        // Nobody waits for what comes after the last event of the script.
        drop(events.send(value));
    }
}
