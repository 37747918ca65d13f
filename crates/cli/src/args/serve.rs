//! What `serve` is told.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
};

use clap::Args;
use p2pconnect::Readers;
use p2pconnect_proto::parse_host;
use toml::Value;

use super::key::Sharing;
use crate::{logging::Format, words::escaped};

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A file with settings, in TOML; `packaging/serve.toml` explains all of them [env:
    /// P2PCONNECT_SERVE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Read all settings, say what each is, where it comes from and what would be done, and end:
    /// with 0, or with 2 if that cannot be done
    #[arg(long)]
    pub(crate) check: bool,
    /// The address of the service, of UDP and of TCP, which also compares mappings: IP:PORT, with
    /// brackets around IPv6, NAME:PORT of this machine, or a port alone, of all addresses; port 0
    /// picks a free one [default: port 4433 of all addresses]
    #[arg(long, value_name = "IP:PORT", value_parser = listen_address)]
    listen: Option<SocketAddr>,
    /// An address for STUN over TCP, written like that; repeat it for more [default: port 3478 of
    /// the same address]
    #[arg(long, value_name = "IP:PORT", value_parser = listen_address)]
    stun: Vec<SocketAddr>,
    /// An address for WebSockets: behind a web server that speaks TLS for them, such as
    /// 127.0.0.1:8433, or with a certificate, such as 0.0.0.0:443 [default: nowhere]
    #[arg(long, value_name = "IP:PORT", value_parser = listen_address)]
    websocket: Option<SocketAddr>,
    /// The certificate with which WebSockets are served by TLS, and those of who has issued it, in
    /// PEM
    #[arg(long, value_name = "FILE")]
    websocket_certificate: Option<String>,
    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE")]
    websocket_key: Option<String>,
    /// The user to run as from when the ports are open and the key is read, by name or number; root
    /// stays root with `--user root` [default: nobody, where root starts this]
    #[arg(long, value_name = "USER", value_parser = user)]
    user: Option<String>,
    /// The file with the secret key, or a pipe that brings it [env: P2PCONNECT_COORDINATOR_KEY]
    /// [default: p2pconnect/coordinator.pem in the XDG config directory]
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    #[command(flatten)]
    sharing: Sharing,
    /// A file with the ids of the peers that are served, one a line, read again on SIGHUP [default:
    /// every peer is served]
    #[arg(long, value_name = "FILE")]
    allowed: Option<String>,
    /// A file with invite secrets, one a line, read again on SIGHUP: whoever knows one of them is
    /// served as well as those who are allowed, and nobody else
    #[arg(long, value_name = "FILE")]
    invite_secrets: Option<String>,
    /// Where metrics for Prometheus, /healthz and /readyz are served by HTTP [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
    /// A server of NATS by which several coordinators serve the same peers: nats://HOST:PORT or
    /// tls://HOST:PORT, several with commas between them. A password belongs into the file or the
    /// variable P2PCONNECT_SERVE_CLUSTER_NATS [default: this coordinator is alone]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    nats: Vec<String>,
    /// The file with the key that these coordinators share [default: p2pconnect/cluster.pem in the
    /// XDG config directory]
    #[arg(long, value_name = "FILE")]
    cluster_key: Option<String>,
    /// A file of credentials for NATS, as `nsc` writes it
    #[arg(long, value_name = "FILE")]
    nats_credentials: Option<String>,
    /// A file with certificates, of PEM, that a server of NATS may have besides those that the
    /// system trusts
    #[arg(long, value_name = "FILE")]
    nats_ca: Option<String>,
    /// How lines are logged on stderr [default: text]
    #[arg(long, value_name = "FORMAT")]
    log: Option<Format>,
}

/// A setting that the command line gives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Given {
    /// The name that the setting has in a file.
    pub(crate) key: &'static str,
    pub(crate) option: &'static str,
    pub(crate) value: Value,
}

impl Serve {
    /// Returns the settings that are given.
    pub(crate) fn given(&self) -> Vec<Given> {
        let address = |it: &SocketAddr| Value::from(it.to_string());
        let stun = || self.stun.iter().map(address).collect();
        let text =
            |key, option, value: &Option<String>| (key, option, value.clone().map(Value::from));
        let is_shared = matches!(self.sharing.readers(), Readers::Others);
        let all = [
            ("listen", "--listen", self.listen.as_ref().map(address)),
            (
                "stun",
                "--stun",
                (!self.stun.is_empty()).then(|| Value::Array(stun())),
            ),
            text("user", "--user", &self.user),
            text("key", "--key", &self.key),
            (
                "shared-key",
                "--shared-key",
                is_shared.then_some(Value::Boolean(true)),
            ),
            text("allowed", "--allowed", &self.allowed),
            text("invite-secrets", "--invite-secrets", &self.invite_secrets),
            ("metrics", "--metrics", self.metrics.as_ref().map(address)),
            (
                "cluster.nats",
                "--nats",
                (!self.nats.is_empty()).then(|| Value::from(self.nats.clone())),
            ),
            text("cluster.key", "--cluster-key", &self.cluster_key),
            text(
                "cluster.credentials",
                "--nats-credentials",
                &self.nats_credentials,
            ),
            text("cluster.ca", "--nats-ca", &self.nats_ca),
            (
                "websocket",
                "--websocket",
                self.websocket.as_ref().map(address),
            ),
            text(
                "websocket-certificate",
                "--websocket-certificate",
                &self.websocket_certificate,
            ),
            text("websocket-key", "--websocket-key", &self.websocket_key),
            (
                "log.format",
                "--log",
                self.log.map(|it| {
                    Value::from(match it {
                        Format::Text => "text",
                        Format::Json => "json",
                    })
                }),
            ),
        ];
        let given = all.into_iter().filter_map(|(key, option, value)| {
            Some(Given {
                key,
                option,
                value: value?,
            })
        });
        given.collect()
    }
}

/// Reads a user, who is looked up later.
pub(super) fn user(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("write a name or a number, such as nobody, or leave --user out".to_owned()),
        user => Ok(user.to_owned()),
    }
}

/// What an address to listen on is.
const WANTED: &str =
    "write IP:PORT, such as 0.0.0.0:4433, [::]:4433 or 192.0.2.1:4433, or a port alone";

/// Reads an address to listen on, which is one that a machine may have. The system lets servers
/// listen on those of groups as well, whom nobody can connect to there.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let address = any_address(text)?;
    let kind = match address.ip().to_canonical() {
        ip if ip.is_multicast() => "a multicast address",
        IpAddr::V4(ip) if ip.is_broadcast() => "the broadcast address",
        IpAddr::V4(_) | IpAddr::V6(_) => return Ok(address),
    };
    Err(format!(
        "{} is {kind}, where no peer can reach this machine; {WANTED}",
        address.ip()
    ))
}

/// Reads `IP:PORT`, a name in the place of the address, or a port alone.
fn any_address(text: &str) -> Result<SocketAddr, String> {
    let no_address = || format!("this is no address to listen on; {WANTED}");
    let (_, port) = text.rsplit_once(':').unwrap_or(("", text));
    // The standard library would take the sign.
    if port.starts_with('+') {
        return Err(no_address());
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok((Ipv6Addr::UNSPECIFIED, port).into());
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let host = text.rsplit_once(':').map(|(host, _)| parse_host(host));
    if let Some(Err(error)) = host {
        return Err(format!("{}; {WANTED}", escaped(&error.to_string())));
    }
    let found = text.to_socket_addrs();
    let first = found.ok().and_then(|mut it| it.next());
    first.ok_or_else(no_address)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn the_help_names_all_forms_of_an_address() {
        let mut commands = Cli::command();
        let serve = commands.find_subcommand_mut("serve").unwrap();
        let help = serve.render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for form in [
            "IP:PORT",
            "brackets around IPv6",
            "NAME:PORT",
            "a port alone",
        ] {
            assert!(help.contains(form), "{form}: {help}");
        }
    }

    #[test]
    fn a_user_has_a_name_or_a_number() {
        assert_eq!(user("nobody "), Ok("nobody".to_owned()));
        assert!(user(" ").unwrap_err().contains("such as nobody"));
    }

    #[test]
    fn what_to_listen_on_may_be_a_port_alone() {
        let all = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        assert_eq!(listen_address(":5000"), Ok(all(5000)));
        assert_eq!(listen_address("5000"), Ok(all(5000)));
        assert_eq!(listen_address("[::1]:5"), Ok("[::1]:5".parse().unwrap()));
        assert!(listen_address("localhost:5000").unwrap().ip().is_loopback());
        let signs = ["+5000", ":+5000", "localhost:+5000"];
        let others = ["", "nowhere", "192.0.2.1", "no-such-host.invalid:1"];
        for wrong in signs.into_iter().chain(others) {
            assert!(listen_address(wrong).is_err(), "{wrong}");
        }
        for (wrong, told) in [
            ("1.2.3:5000", "no IPv4 address"),
            ("224.0.0.1:5000", "224.0.0.1 is a multicast address"),
            ("[ff02::1]:5000", "ff02::1 is a multicast address"),
            ("[::ffff:224.0.0.1]:5000", "is a multicast address"),
            ("255.255.255.255:5000", "is the broadcast address"),
        ] {
            let error = listen_address(wrong).unwrap_err();
            assert!(error.contains(told) && error.contains(WANTED), "{error}");
        }
    }
}
