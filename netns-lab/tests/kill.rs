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
    kill_commands()?;
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

/// Kills the command, in each way and at random moments.
#[cfg(feature = "cli")]
fn kill_commands() -> Result<()> {
    use rand::{RngExt as _, SeedableRng as _};
    let seed = std::env::var("NETNS_LAB_KILL_SEED").map_or_else(
        |_unset| Ok(u64::from(std::process::id())),
        |seed| seed.parse(),
    )?;
    println!("NETNS_LAB_KILL_SEED={seed} replays the moments");
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    for (number, signal) in ["KILL", "TERM", "INT", "HUP"]
        .iter()
        .cycle()
        .take(12)
        .enumerate()
    {
        for subcommand in ["run", "shell", "matrix"] {
            let moment = random.random_range(0..300);
            let mut command = Victim::start_command(subcommand, number)?;
            // Not to wait for anything: this is the moment to kill it at.
            std::thread::sleep(Duration::from_millis(moment));
            command
                .signal_and_check(signal, 0)
                .with_context(|| format!("{subcommand}: SIG{signal} after {moment} ms"))?;
        }
    }
    Ok(())
}

#[cfg(not(feature = "cli"))]
fn kill_commands() -> Result<()> {
    Ok(())
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

    /// Starts the command, for longer than this test waits. All that it starts
    /// inherits the token.
    #[cfg(feature = "cli")]
    fn start_command(subcommand: &str, number: usize) -> Result<Self> {
        let token = format!(
            "command-to-kill-{}-{subcommand}-{number}",
            std::process::id()
        );
        let words: &[&str] = match subcommand {
            "run" => &["openwrt,public", "--host", "a", "--", "sleep", "1000"],
            "shell" => &["openwrt,public", "a"],
            _ => &["--ground", "netns", "--runs", "1000"],
        };
        // What runs in the background of a script ignores SIGINT, and so would
        // all that it starts.
        let child = Command::new("env")
            .args(["--default-signal", env!("CARGO_BIN_EXE_netns-lab")])
            .arg(subcommand)
            .args(words)
            .env("SHELL", "/bin/sh")
            .env("NETNS_LAB_TO_KILL", &token)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
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
        self.signal_and_check("KILL", depth)
    }

    fn signal_and_check(&mut self, signal: &str, depth: usize) -> Result<()> {
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
        let status = Command::new("kill")
            .args(["-s", signal, &target])
            .status()?;
        ensure!(status.success(), "kill failed");
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                anyhow::bail!("it did not end");
            }
            std::thread::yield_now();
        }
        loop {
            let left = self.processes();
            let is_holder = |process: &PathBuf| !namespaces(process).is_disjoint(&theirs);
            let holders: Vec<_> = processes().filter(is_holder).collect();
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

    /// All processes with the token on their command line or in their environment.
    fn processes(&self) -> Vec<PathBuf> {
        let has_token = |process: &PathBuf| {
            ["cmdline", "environ"].iter().any(|file| {
                fs::read(process.join(file))
                    .is_ok_and(|text| String::from_utf8_lossy(&text).contains(&self.token))
            })
        };
        processes().filter(has_token).collect()
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

/// All processes of the machine.
fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.join("status").exists())
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
