use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use p2pconnect::{CoordinatorAddr, DialPolicy, PeerId};

use crate::exit;

const STATUSES: &str = "\
Exit status:
  0  done, or told to end while serving many
  1  the stream broke, or this machine failed
  2  wrong usage, or an address or key file that cannot be used
  3  the peer is not online, or does not allow this machine
  5  no direct path (stderr says why), or the peer is busy
  6  coordinator or STUN server unreachable, or it refuses
  7  wrong identity
  130  ended by Ctrl-C or another signal before it was done";

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
    Serve(Serve),
    /// Wait for peers that dial this machine; unless they are forwarded, the first one's stream is
    /// stdin and stdout
    #[command(after_help = STATUSES)]
    Listen(Listen),
    /// Connect to a peer; stdin and stdout are the stream
    #[command(after_help = STATUSES)]
    Dial(Dial),
    /// Watch a dial between two NATs, in a lab of network namespaces on this machine
    Demo(Demo),
}

#[derive(Debug, Args)]
pub(crate) struct Id {
    #[command(flatten)]
    pub(crate) key: Key,
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    /// The file with the secret key [default: p2pconnect/key.pem in the XDG config directory]
    #[arg(long, value_name = "FILE", env = "P2PCONNECT_KEY")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Coordinator {
    /// The coordinator, as `serve` prints it
    #[arg(
        long,
        value_name = "SERVER-ID@HOST:PORT",
        env = "P2PCONNECT_COORDINATOR"
    )]
    pub(crate) coordinator: CoordinatorAddr,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address of the QUIC service, UDP and, for comparing mappings, TCP; port 0 picks a free
    /// one
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,
    /// An address for STUN over TCP; repeat it for more [default: port 3478 of the same address]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) stun: Vec<SocketAddr>,
    /// The file with the secret key [default: p2pconnect/coordinator.pem in the XDG config
    /// directory]
    #[arg(long, value_name = "FILE", env = "P2PCONNECT_KEY")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Listen {
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    allowed: Allowed,
    /// Send each peer's stream to this TCP address, instead of stdin and stdout
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub(crate) forward: Option<String>,
    /// Exit after the first peer's stream has ended
    #[arg(long)]
    pub(crate) once: bool,
    /// Do not ask the router to forward ports to this machine
    #[arg(long)]
    pub(crate) no_port_mapping: bool,
    #[command(flatten)]
    pub(crate) key: Key,
    /// Print the status as JSON, one object a line, on stderr
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Allowed {
    /// A peer that may dial; repeat it for more
    #[arg(long, value_name = "PEER-ID", conflicts_with = "allow_any")]
    allow: Vec<PeerId>,
    /// Let anybody dial who knows this machine's peer id
    #[arg(long)]
    allow_any: bool,
}

impl Listen {
    pub(crate) fn policy(&self) -> DialPolicy {
        if self.allowed.allow_any {
            DialPolicy::Anyone
        } else {
            DialPolicy::Only(self.allowed.allow.clone())
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Dial {
    /// The peer to connect to
    #[arg(value_name = "PEER-ID")]
    pub(crate) peer: PeerId,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    /// How long to try, such as 15s or 500ms
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Do not ask the router to forward ports to this machine
    #[arg(long)]
    pub(crate) no_port_mapping: bool,
    #[command(flatten)]
    pub(crate) key: Key,
    /// Print the status as JSON, one object a line, on stderr
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How much to send in each direction, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) size: u32,
    /// Write the headers of all that crosses the lab's network to this file, for Wireshark
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
}

/// Reads the command line, or says what is wrong with it.
pub(crate) fn parse() -> Result<Command, ExitCode> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli.command),
        Err(error) => {
            // Help and version go to stdout and are no mistake; the rest goes to stderr.
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            };
            error
                .print()
                .map_or(Err(ExitCode::FAILURE), |()| Err(ExitCode::from(code)))
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(format!("'{unit}' is no unit of time; use ms, s or m")),
    };
    let value: f64 = number
        .parse()
        .map_err(|_| format!("'{number}' is not a number"))?;
    Duration::try_from_secs_f64(value * scale)
        .ok()
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(3600))
        .ok_or_else(|| "the time must be above zero and at most an hour".to_owned())
}

fn host_and_port(text: &str) -> Result<String, String> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or("the port is missing; write HOST:PORT, such as localhost:22")?;
    if host.is_empty() {
        return Err("the host is missing; write HOST:PORT, such as localhost:22".to_owned());
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        Ok(0) | Err(_) => Err(format!("'{port}' is not a port number from 1 to 65535")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(duration("15s").unwrap(), Duration::from_secs(15));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1.5m").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("3").unwrap(), Duration::from_secs(3));
        for wrong in ["", "s", "0s", "-1s", "5h", "61m", "nan", "inf", "1e99s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn listening_needs_to_know_for_whom() {
        let id = PeerId::from_public_key([1; 32]).to_string();
        let at = format!("{id}@192.0.2.1:4433");
        let parse = |extra: &[&str]| {
            let words = ["p2pconnect", "listen", "--coordinator", &at];
            Cli::try_parse_from(words.iter().chain(extra))
        };
        assert!(parse(&[]).is_err());
        assert!(parse(&["--allow", &id, "--allow-any"]).is_err());
        assert!(parse(&["--allow", &id, "--allow", &id]).is_ok());
        assert!(parse(&["--allow-any"]).is_ok());
        assert!(parse(&["--allow-any", "--forward", "nowhere"]).is_err());
    }
}
