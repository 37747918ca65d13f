//! Kills labs at many moments and looks for what they leave behind.
//!
//! It is its own victim: run with the argument `victim`, it builds a lab with
//! programs in it and waits to be killed.
#![expect(clippy::print_stdout, reason = "this is a test runner of its own")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use netns_lab::{HostSpec, Lab, NatSpec};

/// Moments after the start of a lab's process; a lab is up after some 20 ms.
const MOMENTS: [u64; 12] = [0, 1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 80];

/// How long the kernel may take to clean up.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode> {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments
        .get(1)
        .is_some_and(|argument| argument == "victim")
    {
        return victim();
    }
    if arguments.iter().any(|argument| argument == "--list") {
        println!("nothing_is_left_of_a_killed_lab: test");
        return Ok(ExitCode::SUCCESS);
    }
    let before = links();
    for moment in MOMENTS {
        let mut lab = Victim::start(moment)?;
        // Not to wait for anything: this is the moment to kill it at.
        std::thread::sleep(Duration::from_millis(moment));
        lab.kill_and_check(0)
            .with_context(|| format!("killed after {moment} ms"))?;
    }
    for depth in 0..4 {
        let mut lab = Victim::start(1000 + depth)?;
        lab.wait_until_ready()?;
        lab.kill_and_check(depth as usize)
            .with_context(|| format!("killed at depth {depth} when it was up"))?;
    }
    ensure!(
        links() == before,
        "links were left behind: {:?} before, {:?} now",
        before,
        links()
    );
    println!("nothing_is_left_of_a_killed_lab ... ok");
    Ok(ExitCode::SUCCESS)
}

/// Builds a lab, starts programs that would live long, and waits.
fn victim() -> Result<ExitCode> {
    if let Some(code) = netns_lab::isolate()? {
        return Ok(code);
    }
    let lab = Lab::builder()
        .host(HostSpec::new("a").behind(NatSpec::port_preserving()))
        .host(HostSpec::new("b").behind(NatSpec::firewall()))
        .build()?;
    let token = std::env::args().nth(2).context("a token")?;
    // The second leaves its parent and its session, as a daemon would.
    for script in [
        "sleep 1000; : $0",
        "setsid sh -c 'sleep 1000; : $0' $0 & sleep 1000; : $0",
    ] {
        lab.host("a")
            .command("sh")
            .args(["-c", script, &token])
            .spawn()?;
    }
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

struct Victim {
    child: Child,
    token: String,
}

impl Victim {
    fn start(number: u64) -> Result<Self> {
        let token = format!("lab-to-kill-{}-{number}", std::process::id());
        let child = Command::new("/proc/self/exe")
            .args(["victim", &token])
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self { child, token })
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let output = self.child.stdout.take().context("the output is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "the lab said {line:?}");
        Ok(())
    }

    /// Kills the process at this depth below the one that was started: that
    /// one, its guard, init, or the program that built the lab.
    fn kill_and_check(&mut self, depth: usize) -> Result<()> {
        let alive = self.processes();
        let ours = namespaces(Path::new("/proc/self"));
        let theirs: BTreeSet<_> = alive
            .iter()
            .flat_map(|p| namespaces(p))
            .filter(|n| !ours.contains(n))
            .collect();
        println!(
            "{} processes and {} namespaces to go",
            alive.len(),
            theirs.len()
        );
        let target = self.at_depth(depth)?;
        let status = Command::new("kill").args(["-KILL", &target]).status()?;
        ensure!(status.success(), "kill failed");
        self.child.wait()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.processes();
            let holders: Vec<_> = alive
                .iter()
                .filter(|p| !namespaces(p).is_disjoint(&theirs))
                .collect();
            if left.is_empty() && holders.is_empty() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "left behind: {left:?} {holders:?}"
            );
            std::thread::yield_now();
        }
    }

    /// All processes with the token on their command line.
    fn processes(&self) -> Vec<PathBuf> {
        let has_token = |process: &PathBuf| {
            fs::read(process.join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&self.token))
        };
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(has_token)
            .collect()
    }

    fn at_depth(&self, depth: usize) -> Result<String> {
        let mut id = self.child.id().to_string();
        for _ in 0..depth {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            id = children
                .split_whitespace()
                .next()
                .context("a child")?
                .to_owned();
        }
        Ok(id)
    }
}

/// The network namespaces that a process is in or holds open.
fn namespaces(process: &Path) -> BTreeSet<PathBuf> {
    let own = fs::read_link(process.join("ns/net"));
    let descriptors = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    let held = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    own.into_iter()
        .chain(held.filter(|link| link.to_string_lossy().starts_with("net:")))
        .collect()
}

/// The links and named namespaces of the machine.
fn links() -> BTreeSet<PathBuf> {
    ["/sys/class/net", "/run/netns"]
        .into_iter()
        .flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect()
}
