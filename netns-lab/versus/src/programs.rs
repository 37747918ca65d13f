//! The processes of one run.

use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use netns_lab::Lab;

/// The relay's port; every lab has its own.
const PORT: &str = "4001";

/// In seconds, how long the dialling peer waits: three dials of libp2p, each with
/// its timeout of ten seconds, and some exchanges.
const LIMIT: &str = "40";

/// How long any program may take to print a line: longer than `LIMIT`.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a direct connection was ready for streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Direct {
    /// Counted from the start of the dialling process.
    pub(crate) cold: Duration,
    /// Counted from the relayed connection.
    pub(crate) warm: Duration,
}

/// Runs relay, listener and dialler on the hosts of those names.
///
/// Returns why there was no direct connection as the inner error. The programs
/// end with the lab.
pub(crate) fn punch(lab: &Lab) -> Result<Result<Direct, String>> {
    let relay = lab.host("relay");
    let address = relay.ipv4().to_string();
    let relay = line(program(lab, "relay", &["relay", &address, PORT])?, "relay")?;
    let peer = program(lab, "listener", &["listen", &relay])?;
    let peer = line(peer, "listening")?;
    let output = program(lab, "dialler", &["dial", &relay, &peer, LIMIT])?;
    let said = first_line(output)?;
    if let Some(reason) = said.strip_prefix("failed ") {
        return Ok(Err(reason.into()));
    }
    let value = |name: &str| -> Result<Duration> {
        let mut words = said.split_whitespace();
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let value = value.with_context(|| format!("no {name} in {said:?}"))?;
        Ok(Duration::try_from_secs_f64(value.parse::<f64>()? / 1e3)?)
    };
    Ok(Ok(Direct {
        cold: value("since_start_ms")?,
        warm: value("since_relayed_ms")?,
    }))
}

/// Starts libp2p's program, which is built next to this one, on a host.
fn program(lab: &Lab, host: &str, arguments: &[&str]) -> Result<ChildStdout> {
    let path = std::env::current_exe()?.with_file_name("libp2p-dcutr");
    let mut command: Command = lab.host(host).command(&path);
    command.args(arguments).stdout(Stdio::piped());
    let child = command
        .spawn()
        .with_context(|| format!("cannot run {}", path.display()))?;
    child.stdout.context("stdout is piped")
}

/// Reads a line that has to begin with `word`, and returns the rest.
fn line(output: ChildStdout, word: &str) -> Result<String> {
    let line = first_line(output)?;
    match line.strip_prefix(word) {
        Some(rest) => Ok(rest.trim().into()),
        None => bail!("expected {word:?}, not {line:?}"),
    }
}

fn first_line(output: ChildStdout) -> Result<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = String::new();
        let read = output.read_line(&mut line);
        if sender.send(read.map(|_| line)).is_ok() {
            // Whatever else it says must not end it.
            std::io::copy(&mut output, &mut std::io::sink()).ok();
        }
    });
    let line = receiver.recv_timeout(PATIENCE);
    Ok(line.context("a program says nothing")??.trim().into())
}
