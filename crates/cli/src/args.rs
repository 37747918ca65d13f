//! The command line.

mod board;
mod coordinator;
#[cfg(feature = "demo")]
mod demo;
mod dial;
mod endpoint;
mod key;
mod listen;
mod peer;
mod probe;
mod proxy;
mod serve;
mod stun_server;
mod target;
mod time;
mod tips;

use std::{ffi::OsString, time::Instant};

use clap::{Args, CommandFactory as _, Parser, Subcommand};

#[cfg(feature = "demo")]
pub(crate) use self::demo::Demo;
pub(crate) use self::{
    board::{Board, OfTopic},
    dial::Dial,
    endpoint::Endpoint,
    key::{Key, KeyFile},
    listen::Listen,
    probe::Probe,
    serve::{Given, Serve, listen_address},
    stun_server::{Alternate, StunServer},
    target::Target,
};
use crate::{
    exit::{self, Exit},
    report::{Reporter, Volume, millis},
    stdio,
    words::escaped,
};

const STATUSES: &str = "\
Exit status:
  0  done: each side has all that the other sent; or told to end while serving many
  1  the stream broke, or this machine failed
  2  wrong usage, or an address or key file that cannot be used
  3  the peer is not online, or does not allow this machine
  4  the peer itself refuses the stream; stderr has its words
  5  no direct path (stderr says why), or the peer is busy
  6  coordinator or STUN server unreachable, or it refuses
  7  wrong identity
  130  ended by Ctrl-C or another signal before it was done
  141  whoever reads stdout has closed it, as `head` does; nothing is said of that
A stdout that is closed from the beginning (>&-) is taken for /dev/null.";

const STATUSES_OF_SERVE: &str = "\
Each setting may also stand in the file that --config names, or in a variable such as
P2PCONNECT_SERVE_LIMITS_PEERS. Options count before variables, and these before the file.
SIGHUP has all of them read again: limits, the list of allowed peers, where peers go and the level
of the log change at once. SIGTERM sends peers elsewhere, or away for a while, before this ends; a
second one ends it at once.

Exit status:
  0  told to end, by Ctrl-C or SIGTERM, or its terminal is gone
  1  this machine failed
  2  wrong usage, or a setting, an address or a key file that cannot be used
  141  whoever reads stdout has closed it before the addresses were there";

const STATUSES_OF_PROBE: &str = "\
Exit status:
  0  the two peers were introduced
  1  this machine failed, or the coordinator does not do what it should
  2  wrong usage
  6  the coordinator is not reached in time, or refuses
  7  wrong identity";

const STATUSES_OF_STUN_SERVER: &str = "\
Exit status:
  0  told to end, by Ctrl-C, SIGTERM or a hang-up
  1  this machine failed
  2  wrong usage, or an address that cannot be used
  141  whoever reads stdout has closed it before the addresses were there";

/// Connects two machines behind different NATs by a direct, authenticated TCP stream.
#[derive(Debug, Parser)]
#[command(name = "p2pconnect", version, after_help = STATUSES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print this machine's peer id; the key is made on first use
    Id(Id),
    /// Run a coordinator, where peers meet, and the STUN server beside it
    ///
    /// Says on stderr who comes, dials and goes, by peer id, and whom it refuses; the lines are
    /// bounded. RUST_LOG selects more or less of it, and `off` nothing.
    #[command(after_help = STATUSES_OF_SERVE)]
    Serve(Serve),
    /// Run a STUN server alone, for clients of any kind
    ///
    /// It answers Binding requests (RFC 8489), also those of RFC 3489, over UDP and TCP. With a
    /// second address of the machine clients find out how their NAT behaves (RFC 5780). Nobody is
    /// asked who they are; answers are bounded by network, and not much longer than requests.
    #[command(after_help = STATUSES_OF_STUN_SERVER)]
    StunServer(StunServer),
    /// Wait for peers that dial this machine; unless they are forwarded, the first one's stream is
    /// stdin and stdout
    #[command(after_help = STATUSES)]
    Listen(Listen),
    /// Connect to a peer; stdin and stdout are the stream
    #[command(after_help = STATUSES)]
    Dial(Dial),
    /// Find peers by a topic, or be found, on the coordinator's bulletin board
    ///
    /// The coordinator is told a hash of the topic and its secret: whoever runs it can neither read
    /// the topic nor become a member, unless he guesses both. It hands out peer ids and no
    /// addresses; these are told to whoever dials and is allowed to.
    Board {
        #[command(subcommand)]
        action: Board,
    },
    /// Try a coordinator: two peers whose keys are thrown away meet there
    ///
    /// One of them registers, the other one dials it, and both wait for their introductions. The
    /// times are printed: how long the handshake, the registration and the introduction took, and
    /// how far apart the two heard of each other. A private coordinator serves them by an invite
    /// secret alone.
    #[command(after_help = STATUSES_OF_PROBE)]
    Probe(Probe),
    /// Watch a dial between two NATs, in a lab of network namespaces on this machine
    #[cfg(feature = "demo")]
    Demo(Demo),
}

#[derive(Debug, Args)]
pub(crate) struct Id {
    #[command(flatten)]
    pub(crate) key: Key,
}

/// How `dial` and `listen` say what happens.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Print the status as JSON, one object a line, on stderr
    #[arg(long)]
    pub(crate) json: bool,
    /// Go on saying what happens when there is a stream
    #[arg(long, short, conflicts_with = "quiet")]
    verbose: bool,
    /// Say nothing on stderr but what is wrong with the command line, the variables or the key
    /// (status 2)
    #[arg(long, short)]
    quiet: bool,
}

impl Output {
    /// Returns what says what happens, as these ask for.
    pub(crate) fn reporter(&self, started: Instant) -> Reporter {
        Reporter::new(self.json, self.volume(), started)
    }

    const fn volume(&self) -> Volume {
        match (self.quiet, self.verbose) {
            (true, _) => Volume::Quiet,
            (false, true) => Volume::Verbose,
            (false, false) => Volume::Usual,
        }
    }
}

/// Reads the command line, or says what is wrong with it. Help and version are no mistake.
pub(crate) fn parse(started: Instant) -> Result<Command, Exit> {
    let arguments = dial::with_time_to_wait(std::env::args_os());
    let error = match Cli::try_parse_from(&arguments) {
        Ok(cli) => return Ok(cli.command),
        Err(error) => tips::replace(in_visible_characters(error, &arguments), Cli::command()),
    };
    if !error.use_stderr() {
        return Err(exit::of_printing(error.print()));
    }
    let usage = Exit(exit::USAGE);
    if arguments.iter().any(|it| it == "--json") {
        let reason = error.render().to_string();
        let line = serde_json::json!({
            "event": "failed",
            "since_start_ms": millis(started.elapsed()),
            "status": exit::USAGE,
            "reason": reason.trim_end(),
        });
        stdio::say(line);
    } else {
        // Somebody who closed stderr does not want to know.
        drop(error.print());
    }
    Err(usage)
}

/// Returns the same error with the control characters of the arguments escaped, which would reach a
/// terminal.
fn in_visible_characters(error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let visible = arguments.iter().map(|it| escaped(&it.to_string_lossy()));
    match Cli::try_parse_from(visible) {
        Err(visible) if error.use_stderr() => visible,
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
