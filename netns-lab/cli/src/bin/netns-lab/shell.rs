//! `netns-lab shell`.

use std::{env, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{arguments::ShellArguments, output, run, stage};

pub(crate) fn main(arguments: &ShellArguments) -> Result<ExitCode> {
    let stage = stage::find(&arguments.scenario)?;
    stage.check_host(&arguments.name)?;
    if let Some(code) = netns_lab::isolate_passing_signals()? {
        return Ok(code);
    }
    let lab = stage.build(&arguments.lab, false)?;
    let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let name = &arguments.name;
    let mut child = lab
        .host(name)
        .command(&shell)
        .envs(stage::environment(&lab))
        .env("PS1", format!("{name} $ "))
        .env("NETNS_LAB_HOST", name)
        .spawn()
        .with_context(|| format!("cannot run {}", shell.display()))?;
    netns_lab::pass_signals_to(&child);
    output::note(&format!(
        "netns-lab: a shell on {name} of {}, --seed {}\n{}\n\
         Addresses are in $NETNS_LAB_<NAME>. Look around with: ip address; ss -tn; curl; tcpdump.\n\
         {}\
         The lab ends with this shell (exit, or Ctrl-D).",
        stage.name,
        stage.seed(&arguments.lab),
        stage::describe(&stage, &lab),
        join(&child)
    ));
    let status = child.wait().context("cannot wait for the shell")?;
    stage::tell_what_was_not_carried(&lab);
    lab.close()?;
    Ok(ExitCode::from(run::code(status)))
}

/// Says how another terminal gets to the same host.
fn join(child: &std::process::Child) -> String {
    outer_id(child.id()).map_or_else(String::new, |id| {
        format!(
            "Another terminal joins this host by: nsenter --preserve-credentials --user --net --target {id}\n"
        )
    })
}

/// Finds the number that the rest of the machine knows one of our processes by: /proc is the
/// machine's, and there NSpid has the numbers inside, too.
fn outer_id(inner: u32) -> Option<u32> {
    let own = std::fs::read_link("/proc/self").ok()?;
    let own = own.to_str()?.to_owned();
    let entries = std::fs::read_dir("/proc").ok()?;
    entries.flatten().find_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let is_ours = field("PPid:")? == own;
        let is_it = field("NSpid:")?.split_whitespace().last()?.parse() == Ok(inner);
        (is_ours && is_it).then_some(id)
    })
}
