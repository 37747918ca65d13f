//! `netns-lab run`.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use netns_lab::{Host, Lab, report::Ladder};

use crate::{
    arguments::RunArguments,
    output, play,
    stage::{self, Stage},
};

/// How long a program in the background may take until it listens; one that never does holds the
/// next one up for so long.
const LISTENS_WITHIN: Duration = Duration::from_secs(3);

/// How often one looks whether it does.
const LOOK: Duration = Duration::from_millis(5);

/// What a shell returns for a program that there is not, or that is none.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// A program on a host.
struct Program {
    host: String,
    words: Vec<OsString>,
}

pub(crate) fn main(arguments: &RunArguments) -> Result<ExitCode> {
    let stage = stage::find(&arguments.scenario)?;
    let programs = programs(&stage, arguments)?;
    let Some((foreground, background)) = programs.split_last() else {
        return play::play(&stage, arguments);
    };
    if let Some(code) = netns_lab::isolate_passing_signals()? {
        return Ok(code);
    }
    let lab = stage.build(&arguments.lab, arguments.ladder)?;
    output::note(&format!(
        "netns-lab: {}, --seed {}\n{}",
        stage.name,
        stage.seed(&arguments.lab),
        stage::describe(&stage, &lab).trim_end()
    ));
    let mut behind = Vec::new();
    for program in background {
        match spawn(&lab, program, Stdio::null()) {
            Ok(child) => behind.push(child),
            Err(error) => return Ok(refused(program, &error)),
        }
        if let Some(child) = behind.last_mut() {
            await_listener(lab.host(&program.host), child)?;
        }
    }
    let mut child = match spawn(&lab, foreground, Stdio::inherit()) {
        Ok(child) => child,
        Err(error) => return Ok(refused(foreground, &error)),
    };
    netns_lab::pass_signals_to(&child);
    let status = child.wait().context("cannot wait for the program")?;
    if arguments.ladder {
        output::say(&ladder(&stage, &lab))?;
    }
    stage::tell_what_was_not_carried(&lab);
    lab.close()?;
    for mut child in behind {
        // The lab has killed it; what it says then says nothing.
        let _killed = child.wait();
    }
    Ok(ExitCode::from(code(status)))
}

/// Reads which programs are to run where.
fn programs(stage: &Stage, arguments: &RunArguments) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for pair in arguments.on.chunks_exact(2) {
        stage.check_host(&pair[0])?;
        programs.push(Program {
            host: pair[0].clone(),
            words: ["sh", "-c", &pair[1]].map(OsString::from).to_vec(),
        });
    }
    if let Some(host) = &arguments.host {
        stage.check_host(host)?;
        programs.push(Program {
            host: host.clone(),
            words: arguments.command.clone(),
        });
    }
    Ok(programs)
}

fn spawn(lab: &Lab, program: &Program, input: Stdio) -> io::Result<Child> {
    let mut words = program.words.iter().map(|word| match word.to_str() {
        Some(text) => stage::fill_in(lab, text).into(),
        None => word.clone(),
    });
    let name = words.next().unwrap_or_default();
    let mut command: Command = lab.host(&program.host).command(name);
    command
        .args(words)
        .envs(stage::environment(lab))
        .stdin(input);
    command.spawn()
}

fn refused(program: &Program, error: &io::Error) -> ExitCode {
    let name = program.words.first().cloned().unwrap_or_default();
    output::complain(&format!(
        "cannot run {} on {}: {error}",
        name.display(),
        program.host
    ));
    ExitCode::from(match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    })
}

/// Waits until something listens on the host that did not before, the program ends, or time is up.
fn await_listener(host: &Host, child: &mut Child) -> Result<()> {
    let limit = Instant::now() + LISTENS_WITHIN;
    while Instant::now() < limit {
        let listens = host.run(listens)?.context("cannot look who listens")?;
        if listens || child.try_wait()?.is_some() {
            break;
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Returns whether a TCP socket listens, or a UDP socket waits, on this host.
fn listens() -> io::Result<bool> {
    // The state, in the fourth column: TCP's LISTEN, and UDP's unconnected.
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = match std::fs::read_to_string(format!("/proc/thread-self/net/{table}")) {
            Ok(text) => text,
            // There is no IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is_waiting = |line: &str| line.split_whitespace().nth(3) == Some(state);
        if text.lines().skip(1).any(is_waiting) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn ladder(stage: &Stage, lab: &Lab) -> String {
    let hosts: Vec<_> = stage.topology.host_names().collect();
    let places = stage.topology.ladder_places(&hosts);
    Ladder::from_log(&stage.name, &places, &lab.log()).to_text(output::width())
}

/// Returns a status as a shell would.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signal);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
