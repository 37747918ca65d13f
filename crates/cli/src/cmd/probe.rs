//! The subcommand `probe`: tries a coordinator from outside, for monitoring.

use std::io::{self, Write as _};

use p2pconnect::{Probe, ProbeError, ProbeStep, probe};
use serde_json::json;

use crate::{
    args,
    exit::{self, Exit},
    report::millis,
    stdio,
    words::escaped,
};

/// Has two peers meet at a coordinator, and prints how long each step took.
pub(crate) async fn run(options: args::Probe) -> Exit {
    let coordinator = options.coordinator.to_string();
    let secret = match options.invite.secret() {
        Ok(secret) => secret,
        Err(error) => {
            let (status, error) = exit::of_usage(error);
            return Exit::print(status, &error);
        }
    };
    match probe(options.coordinator, secret, options.timeout).await {
        Ok(found) => exit::of_printing(print(&match options.json {
            true => in_json(&coordinator, &found),
            false => in_words(&found),
        })),
        Err(error) => {
            let status = status(&error);
            if !options.json {
                return Exit::print(status, &failed(error));
            }
            let step = step(&error);
            let line = json!({
                "ok": false,
                "coordinator": coordinator,
                "step": step.map(name),
                "status": status,
                "reason": escaped(&error.to_string()),
            });
            match exit::of_printing(print(&format!("{line}\n"))) {
                Exit::DONE => Exit(status),
                other => other,
            }
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    stdio::stdout().write_all(text.as_bytes())
}

fn in_json(coordinator: &str, found: &Probe) -> String {
    let line = json!({
        "ok": true,
        "coordinator": coordinator,
        "address": found.address,
        "way": way(found),
        "lookup_ms": millis(found.looked_up),
        "connect_ms": millis(found.connected),
        "welcome_ms": millis(found.welcomed),
        "register_ms": millis(found.registered),
        "introduce_ms": millis(found.introduced),
        "apart_ms": millis(found.apart),
    });
    format!("{line}\n")
}

fn in_words(found: &Probe) -> String {
    let line = |what: &str, time| format!("{what:<12}{:>10.1} ms\n", millis(time));
    [
        format!("reached at {} by {}\n", found.address, way(found)),
        line("look-up", found.looked_up),
        line("connect", found.connected),
        line("welcome", found.welcomed),
        line("register", found.registered),
        line("introduce", found.introduced),
        line("apart", found.apart),
    ]
    .concat()
}

const fn way(found: &Probe) -> &'static str {
    match found.by_tcp {
        true => "TLS on TCP",
        false => "QUIC",
    }
}

/// Returns the step that a probe has failed in.
const fn step(error: &ProbeError) -> Option<ProbeStep> {
    match error {
        ProbeError::Failed { step, .. } | ProbeError::TimedOut { step, .. } => Some(*step),
        _ => None,
    }
}

const fn name(step: ProbeStep) -> &'static str {
    match step {
        ProbeStep::LookUp => "look-up",
        ProbeStep::Connect => "connect",
        ProbeStep::Welcome => "welcome",
        ProbeStep::Register => "register",
        ProbeStep::Introduce => "introduce",
    }
}

fn status(error: &ProbeError) -> u8 {
    match error {
        ProbeError::Failed { error, .. } => exit::of_coordinator(error),
        ProbeError::TimedOut { .. } => exit::UNREACHABLE,
        _ => exit::BROKEN,
    }
}

fn failed(error: ProbeError) -> anyhow::Error {
    let step = step(&error).map(name);
    let error = anyhow::Error::new(error);
    match step {
        Some(step) => error.context(step),
        None => error,
    }
}
