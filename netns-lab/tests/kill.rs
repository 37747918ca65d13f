//! Kills labs at many moments and looks for what they leave behind.
//!
//! It is its own victim: run with the argument `victim`, it builds a lab with programs in it and
//! waits to be killed.
#![expect(clippy::print_stdout, reason = "this is a test runner of its own")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use netns_lab::{HostSpec, Lab, NatSpec};
use netns_lab_rig::killing::{Victim, links};

/// Moments after the start of a lab's process; a lab is up after some 20 ms.
const MOMENTS: [u64; 12] = [0, 1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 80];

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
        let mut lab = start(moment)?;
        // Not to wait for anything: this is the moment to kill it at.
        std::thread::sleep(Duration::from_millis(moment));
        lab.kill_and_check(0)
            .with_context(|| format!("killed after {moment} ms"))?;
    }
    for depth in 0..4 {
        let mut lab = start(1000 + depth)?;
        wait_until_ready(&mut lab)?;
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

fn start(number: u64) -> Result<Victim> {
    let token = format!("lab-to-kill-{}-{number}", std::process::id());
    let child = Command::new("/proc/self/exe")
        .args(["victim", &token])
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(Victim { child, token })
}

fn wait_until_ready(lab: &mut Victim) -> Result<()> {
    let output = lab.child.stdout.take().context("the output is piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line == "ready\n", "the lab said {line:?}");
    Ok(())
}
