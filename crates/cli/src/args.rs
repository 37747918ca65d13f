use std::{
    net::{Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use clap::{Args, Parser, Subcommand};
use p2pconnect::{CoordinatorAddr, DialError, DialPolicy, PeerId, Readers};

use crate::{
    environment, exit,
    report::{Volume, escaped, millis},
    stdio,
};

/// The most peers that are forwarded at a time; it leaves room below the usual limit of 1,024
/// open files.
const MAX_STREAMS: usize = 256;

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
    ///
    /// Says on stderr who comes, dials and goes, by peer id, and whom it refuses; the lines are bounded. RUST_LOG
    /// selects more or less of it, and `off` nothing.
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
    /// The file with the secret key [env: P2PCONNECT_KEY] [default: p2pconnect/key.pem in the XDG
    /// config directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    sharing: Sharing,
}

impl Key {
    /// Returns the file that was named, by the option or by the variable.
    pub(crate) fn file(&self) -> KeyFile {
        let variable = || environment::path("P2PCONNECT_KEY");
        KeyFile {
            path: self.key.clone().or_else(variable),
            readers: self.sharing.readers(),
        }
    }
}

/// Whether others may read the key file.
#[derive(Debug, Args)]
struct Sharing {
    /// Take the key file though others on this machine can read it, as on a read-only volume of secrets; they
    /// must not be able to change it
    #[arg(long)]
    shared_key: bool,
}

impl Sharing {
    const fn readers(&self) -> Readers {
        if self.shared_key {
            Readers::Others
        } else {
            Readers::Owner
        }
    }
}

/// Where a key is, if not in the usual place, and who may read it.
#[derive(Debug)]
pub(crate) struct KeyFile {
    pub(crate) path: Option<PathBuf>,
    pub(crate) readers: Readers,
}

#[derive(Debug, Args)]
pub(crate) struct Coordinator {
    /// The coordinator, as `serve` prints it [env: P2PCONNECT_COORDINATOR]
    #[arg(long, value_name = "SERVER-ID@HOST:PORT", value_parser = coordinator)]
    coordinator: Option<CoordinatorAddr>,
}

impl Coordinator {
    /// Returns the coordinator that was named, by the option or by the variable.
    pub(crate) fn address(&self) -> anyhow::Result<CoordinatorAddr> {
        const VARIABLE: &str = "P2PCONNECT_COORDINATOR";

        if let Some(address) = &self.coordinator {
            return Ok(address.clone());
        }
        let text = environment::text(VARIABLE).ok_or_else(|| {
            anyhow!("no coordinator is named; give --coordinator, or set {VARIABLE}")
        })?;
        coordinator(&text).map_err(|error| anyhow!("{VARIABLE} is '{}': {error}", escaped(&text)))
    }
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
    /// Say nothing on stderr
    #[arg(long, short)]
    quiet: bool,
}

impl Output {
    pub(crate) const fn volume(&self) -> Volume {
        match (self.quiet, self.verbose) {
            (true, _) => Volume::Quiet,
            (false, true) => Volume::Verbose,
            (false, false) => Volume::Usual,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address of the QUIC service, UDP and, for comparing mappings, TCP; port 0 picks a free
    /// one [default: port 4433 of all addresses]
    #[arg(long, value_name = "IP:PORT", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// An address for STUN over TCP; repeat it for more [default: port 3478 of the same address]
    #[arg(long, value_name = "IP:PORT", value_parser = listen_address)]
    pub(crate) stun: Vec<SocketAddr>,
    /// The user to run as from when the ports are open and the key is read, by name or number; root stays root
    /// with `--user root` [default: nobody, where root starts this]
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// The file with the secret key [env: P2PCONNECT_COORDINATOR_KEY] [default:
    /// p2pconnect/coordinator.pem in the XDG config directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    sharing: Sharing,
}

impl Serve {
    /// Returns the key file that was named, by the option or by the variable. A peer's key has a
    /// variable of its own: a machine that is both has two identities.
    pub(crate) fn key_file(&self) -> KeyFile {
        let variable = || environment::path("P2PCONNECT_COORDINATOR_KEY");
        KeyFile {
            path: self.key.clone().or_else(variable),
            readers: self.sharing.readers(),
        }
    }
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
    /// End a stream when nothing comes from the peer, or from the service, for so long although something should
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = stream_silence)]
    pub(crate) stream_timeout: Duration,
    #[command(flatten)]
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Allowed {
    /// A peer that may dial; repeat it for more, or put commas between them
    #[arg(
        long,
        value_name = "PEER-ID",
        value_parser = peer_ids,
        conflicts_with = "allow_any"
    )]
    allow: Vec<PeerIds>,
    /// Let anybody dial who knows this machine's peer id
    #[arg(long)]
    allow_any: bool,
}

impl Allowed {
    /// Returns all peers that were named, in their order.
    fn ids(&self) -> Vec<PeerId> {
        self.allow.iter().flat_map(|it| &it.0).copied().collect()
    }
}

/// The peers that one option names.
#[derive(Debug, Clone)]
struct PeerIds(Vec<PeerId>);

impl Listen {
    /// Refuses a policy that lets in nobody but this machine itself, or has an id with a slip of the pen. Returns
    /// what is to be noted beside.
    pub(crate) fn check_policy(&self, own_id: &PeerId) -> anyhow::Result<Option<&'static str>> {
        let allowed = self.allowed.ids();
        if let [first, ..] = &allowed[..]
            && allowed.iter().all(|it| it == own_id)
        {
            return Err(anyhow!(
                "--allow names nobody but this machine itself, {first}; name the peer id of the machine that \
                 dials, which `p2pconnect id` prints there"
            ));
        }
        for (place, id) in allowed.iter().enumerate() {
            let known = allowed[..place].iter().chain([own_id]);
            if let Some(similar) = known.into_iter().find(|it| id.is_slip_of(it)) {
                let whose = if similar == own_id {
                    "this machine's own"
                } else {
                    "allowed as well"
                };
                return Err(anyhow!(
                    "--allow names {id}, which is mistyped or {similar} is, {whose}: they differ by one slip of the pen"
                ));
            }
        }
        Ok(allowed
            .contains(own_id)
            .then_some("--allow names this machine's own peer id as well, which changes nothing"))
    }

    /// Returns how many streams there may be at a time.
    pub(crate) const fn max_streams(&self) -> usize {
        if self.forward.is_some() && !self.once {
            MAX_STREAMS
        } else {
            1
        }
    }

    pub(crate) fn policy(&self) -> DialPolicy {
        if self.allowed.allow_any {
            DialPolicy::Anyone
        } else {
            DialPolicy::Only(self.allowed.ids())
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
    /// Wait for a peer that is not online yet, or a coordinator, and then dial: for so long, or an hour
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "1h", value_parser = wait)]
    pub(crate) wait: Option<Duration>,
    /// Do not ask the router to forward ports to this machine
    #[arg(long)]
    pub(crate) no_port_mapping: bool,
    /// End a stream when nothing comes from the peer for so long although something should
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = stream_silence)]
    pub(crate) stream_timeout: Duration,
    #[command(flatten)]
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Dial {
    /// Refuses this machine's own id, and one that is another one's with a slip of the pen, of those that are known
    /// here.
    pub(crate) fn check_peer(&self, own_id: &PeerId) -> anyhow::Result<()> {
        if self.peer == *own_id {
            return Err(DialError::OwnId.into());
        }
        let coordinator = self.coordinator.address()?.id;
        let known = [
            (*own_id, "this machine's own"),
            (coordinator, "the coordinator's"),
        ];
        let similar = known.iter().find(|(id, _)| self.peer.is_slip_of(id));
        match similar {
            Some((id, whose)) => Err(anyhow!(
                "the peer id {} is {whose} with a slip of the pen, {id}; name the peer's, which `listen` prints there",
                self.peer
            )),
            None => Ok(()),
        }
    }
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
pub(crate) fn parse(started: Instant) -> Result<Command, ExitCode> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli.command),
        Err(error) => {
            let error = in_visible_characters(error);
            // Help and version go to stdout and are no mistake; the rest goes to stderr.
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            };
            if error.use_stderr() && std::env::args_os().any(|it| it == "--json") {
                let reason = error.render().to_string();
                let line = serde_json::json!({
                    "event": "failed",
                    "since_start_ms": millis(started.elapsed()),
                    "status": exit::USAGE,
                    "reason": reason.trim_end(),
                });
                stdio::say(line);
                return Err(ExitCode::from(code));
            }
            error
                .print()
                .map_or(Err(ExitCode::FAILURE), |()| Err(ExitCode::from(code)))
        }
    }
}

/// Returns the same error with the control characters of the arguments escaped, which would reach a terminal.
fn in_visible_characters(error: clap::Error) -> clap::Error {
    let visible = std::env::args_os().map(|it| escaped(&it.to_string_lossy()));
    match Cli::try_parse_from(visible) {
        Err(visible) if error.use_stderr() => visible,
        _ => error,
    }
}

/// Reads how long to wait, which may be left out: the peer id is easily taken for it.
fn wait(text: &str) -> Result<Duration, String> {
    if text.trim().parse::<PeerId>().is_ok() {
        return Err("this is a peer id; write it before --wait, or --wait=1h before it".to_owned());
    }
    duration(text)
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
        "h" => 3600.0,
        _ if number.is_empty() => return Err(format!("'{unit}' is no time; write 90s, 15m or 1h")),
        _ => return Err(format!("'{unit}' is no unit of time; use ms, s, m or h")),
    };
    let value: f64 = number
        .parse()
        .map_err(|_| format!("'{number}' is not a number"))?;
    Duration::try_from_secs_f64(value * scale)
        .ok()
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(3600))
        .ok_or_else(|| "the time must be above zero and at most an hour".to_owned())
}

/// Reads a time that TCP can count: three questions a second apart are the least.
fn stream_silence(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < Duration::from_secs(3) {
        return Err("the time must be 3s or more".to_owned());
    }
    Ok(time)
}

/// Reads a coordinator's address. Whoever pastes one may paste the end of its line as well.
fn coordinator(text: &str) -> Result<CoordinatorAddr, String> {
    text.trim()
        .parse()
        .map_err(|error: p2pconnect::ParseCoordinatorAddrError| escaped(&error.to_string()))
}

/// Reads peer ids with commas between them. A list that a program has put together may have spaces, and a comma at its
/// end.
fn peer_ids(text: &str) -> Result<PeerIds, String> {
    let text = text.trim();
    let list = text.strip_suffix(',').unwrap_or(text);
    let ids = list.split(',').map(|it| it.trim().parse::<PeerId>());
    let ids: Result<Vec<_>, _> = ids.collect();
    ids.map(PeerIds).map_err(|error| error.to_string())
}

/// Reads an address to listen on: `IP:PORT`, a name in the place of the address, or a port alone.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok((Ipv6Addr::UNSPECIFIED, port).into());
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wanted =
        "write IP:PORT, such as 0.0.0.0:4433, [::]:4433 or 192.0.2.1:4433, or a port alone";
    let found = text.to_socket_addrs();
    let first = found.ok().and_then(|mut it| it.next());
    first.ok_or_else(|| format!("this is no address to listen on; {wanted}"))
}

fn host_and_port(text: &str) -> Result<String, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!(
            "streams are carried to a TCP address; leave '{scheme}://' out: {}",
            rest.trim_end_matches('/')
        ));
    }
    if let Some((user, place)) = text.rsplit_once('@') {
        return Err(format!(
            "streams are carried to a TCP address; leave '{}@' out: {}",
            escaped(user),
            escaped(place)
        ));
    }
    // The colons of an address in brackets are no separators.
    let port_at = (!text.ends_with(']')).then(|| text.rsplit_once(':'));
    let (host, port) = port_at
        .flatten()
        .ok_or("the port is missing; write HOST:PORT, such as localhost:22")?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(format!(
            "an IPv6 address needs brackets; write [{host}]:{port}"
        ));
    }
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
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        assert_eq!(duration("3").unwrap(), Duration::from_secs(3));
        for wrong in ["", "s", "0s", "-1s", "5h", "61m", "nan", "inf", "1e99s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_peer_id_is_not_taken_for_a_time() {
        let id = PeerId::from_public_key([7; 32]).to_string();
        assert!(id.parse::<PeerId>().is_ok());
        assert!(wait(&id).unwrap_err().contains("before --wait"));
        assert_eq!(wait("15m"), Ok(Duration::from_secs(900)));
    }

    #[test]
    fn what_to_listen_on_may_be_a_port_alone() {
        let all = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        assert_eq!(listen_address(":5000"), Ok(all(5000)));
        assert_eq!(listen_address("5000"), Ok(all(5000)));
        assert_eq!(listen_address("[::1]:5"), Ok("[::1]:5".parse().unwrap()));
        assert!(listen_address("localhost:5000").unwrap().ip().is_loopback());
        for wrong in ["", "nowhere", "192.0.2.1", "no-such-host.invalid:1"] {
            assert!(listen_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn where_to_forward_to_is_an_address_and_no_url() {
        assert!(host_and_port("localhost:22").is_ok());
        assert!(host_and_port("[::1]:22").is_ok());
        for (wrong, told) in [
            ("http://localhost:80", "localhost:80"),
            ("::1:22", "[::1]:22"),
            ("localhost", "port"),
            ("[::1]", "the port is missing"),
            ("user@localhost:22", "leave 'user@' out: localhost:22"),
            (":22", "host"),
            ("localhost:0", "0"),
        ] {
            let error = host_and_port(wrong).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn an_address_may_be_pasted_with_the_end_of_its_line() {
        let id = PeerId::from_public_key([7; 32]).to_string();
        assert!(coordinator(&format!("{id}@192.0.2.1:4433\r\n")).is_ok());
        let error = coordinator(&format!("{id}@host\u{7}x:1")).unwrap_err();
        assert!(!error.contains('\u{7}'), "{error:?}");
    }

    #[test]
    fn several_peers_may_be_allowed_at_once() {
        let ids = [7, 9].map(|n| PeerId::from_public_key([n; 32]));
        let allowed = format!("{},{}", ids[0], ids[1]);
        let cli = Cli::try_parse_from(["p2pconnect", "listen", "--allow", &allowed]).unwrap();
        let Command::Listen(listen) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!(listen.policy(), DialPolicy::Only(ids.to_vec()));
        assert!(listen.check_policy(&ids[0]).unwrap().is_some());
        let other = PeerId::from_public_key([8; 32]);
        assert_eq!(listen.check_policy(&other).unwrap(), None);
    }

    #[test]
    fn a_list_of_peers_may_have_spaces_and_a_comma_at_its_end() {
        let [one, other] = [7, 9].map(|n| PeerId::from_public_key([n; 32]));
        for (text, ids) in [
            (format!("{one}, {other}"), &[one, other][..]),
            (format!("{one},"), &[one]),
            (format!(" {one} , {other} , "), &[one, other]),
        ] {
            assert_eq!(peer_ids(&text).unwrap().0, ids, "{text}");
        }
        for wrong in [String::new(), ",".to_owned(), format!("{one},,{other}")] {
            assert!(peer_ids(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_id_with_a_slip_of_the_pen_is_pointed_out() {
        let [id, own] = [7, 9].map(|n| PeerId::from_public_key([n; 32]));
        let mistyped = |id: PeerId| format!("x{}", &id.to_string()[1..]);
        for allowed in [format!("{id},{}", mistyped(id)), mistyped(own)] {
            let cli = Cli::try_parse_from(["p2pconnect", "listen", "--allow", &allowed]).unwrap();
            let Command::Listen(listen) = cli.command else {
                panic!("{cli:?}");
            };
            let error = listen.check_policy(&own).unwrap_err().to_string();
            assert!(error.contains("slip of the pen"), "{error}");
        }
        let dial = |peer: &str| {
            let coordinator = format!("{id}@192.0.2.1:1");
            let words = ["p2pconnect", "dial", peer, "--coordinator", &coordinator];
            match Cli::try_parse_from(words).unwrap().command {
                Command::Dial(dial) => dial.check_peer(&own).map_err(|it| it.to_string()),
                other => panic!("{other:?}"),
            }
        };
        assert!(dial(&mistyped(own)).unwrap_err().contains("own"));
        assert!(dial(&mistyped(id)).unwrap_err().contains("coordinator"));
        assert!(dial(&own.to_string()).unwrap_err().contains("own"));
        assert_eq!(dial(&PeerId::from_public_key([8; 32]).to_string()), Ok(()));
    }

    #[test]
    fn listening_needs_to_know_for_whom() {
        let id = PeerId::from_public_key([7; 32]).to_string();
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
