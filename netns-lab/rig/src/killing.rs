//! Programs that are killed, and what they leave behind.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// How long the kernel may take to clean up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that has been started to be killed.
#[derive(Debug)]
pub struct Victim {
    /// The program.
    pub child: Child,
    /// What is on the command line, or in the environment, of all processes that belong to it.
    pub token: String,
}

impl Victim {
    /// Kills the process at this depth below the one that was started: that one, its guard, init,
    /// or the program that built the lab.
    ///
    /// # Errors
    ///
    /// It has no such descendant, or something is left after ten seconds.
    pub fn kill_and_check(&mut self, depth: usize) -> Result<()> {
        self.signal_and_check("KILL", depth)
    }

    /// Sends a signal to the process at this depth, and waits until nothing is left of all of them.
    ///
    /// # Errors
    ///
    /// It has no such descendant, or something is left after ten seconds.
    pub fn signal_and_check(&mut self, signal: &str, depth: usize) -> Result<()> {
        let ours = namespaces(Path::new("/proc/self"));
        let alive = self.processes().into_iter();
        let theirs: BTreeSet<_> = alive
            .flat_map(|p| namespaces(&p))
            .filter(|n| !ours.contains(n))
            .collect();
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

    /// Returns all processes with the token on their command line or in their environment.
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

/// Returns all processes of the machine.
fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.join("status").exists())
}

/// Returns the network namespaces that a process is in or holds open.
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

/// Returns the links and named namespaces of the machine.
#[must_use]
pub fn links() -> BTreeSet<PathBuf> {
    ["/sys/class/net", "/run/netns"]
        .into_iter()
        .flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect()
}
