//! What `stun-server` is told.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, value_parser};
use p2pconnect_stun::{DEFAULT_PORT, StunTransports};

use super::serve::{listen_address, user};

#[derive(Debug, Args)]
pub(crate) struct StunServer {
    /// An address to listen on; repeat it for more; port 0 picks a free one [default: port 3478 of
    /// all addresses, IPv4 and IPv6]
    #[arg(long, value_name = "IP[:PORT]", value_parser = listen)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Another address of this machine beside that of --listen, so that clients find out how their
    /// NAT behaves (RFC 5780); once for IPv4 and once for IPv6 [default port: the next one after
    /// that of --listen]
    #[arg(long, value_name = "IP[:PORT]", value_parser = alternate, requires = "listen")]
    pub(crate) alternate: Vec<Alternate>,
    /// Tell clients PUBLIC in the place of LOCAL, where a cloud or a router in front of this
    /// machine translates one to the other; once for each address
    #[arg(long, value_name = "LOCAL=PUBLIC", value_parser = known_as, requires = "alternate")]
    pub(crate) known_as: Vec<KnownAs>,
    /// Answer over TCP only
    #[arg(long, conflicts_with = "no_tcp")]
    no_udp: bool,
    /// Answer over UDP only
    #[arg(long)]
    no_tcp: bool,
    /// Connect back to clients that ask for it over TCP, as those of p2pconnect do to find out what
    /// their NAT lets in
    #[arg(long, conflicts_with = "no_tcp")]
    pub(crate) connect_back: bool,
    /// Answer so many datagrams a second to one IPv4 address or IPv6 /64, where a NAT may have many
    /// clients behind it; eight times as many at once, and four times as many to an IPv6 /48
    #[arg(long, value_name = "NUMBER", default_value = "128", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// The user to run as from when the ports are open, by name or number; root stays root with
    /// `--user root` [default: nobody, where root starts this]
    #[arg(long, value_name = "USER", value_parser = user)]
    pub(crate) user: Option<String>,
    /// Say every minute what was asked meanwhile
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

impl StunServer {
    pub(crate) const fn transports(&self) -> StunTransports {
        match (self.no_udp, self.no_tcp) {
            (true, _) => StunTransports::Tcp,
            (false, true) => StunTransports::Udp,
            (false, false) => StunTransports::Both,
        }
    }
}

/// Another address of the machine, with a port or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alternate {
    pub(crate) ip: IpAddr,
    pub(crate) port: Option<u16>,
}

/// An address of the machine, and by which others know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownAs {
    pub(crate) local: IpAddr,
    pub(crate) public: IpAddr,
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    match ip(text) {
        Some(ip) => listen_address(&SocketAddr::new(ip, DEFAULT_PORT).to_string()),
        None => listen_address(text),
    }
}

fn alternate(text: &str) -> Result<Alternate, String> {
    const WANTED: &str = "write IP or IP:PORT, such as 192.0.2.2 or [2001:db8::2]:3479";

    let (address, port) = match ip(text) {
        Some(ip) => (SocketAddr::new(ip, DEFAULT_PORT), None),
        None => {
            let address: SocketAddr = text
                .parse()
                .map_err(|_| format!("this is no address; {WANTED}"))?;
            (address, Some(address.port()))
        }
    };
    let ip = listen_address(&address.to_string())?.ip();
    if ip.is_unspecified() {
        return Err(format!("{ip} is no address of its own; {WANTED}"));
    }
    Ok(Alternate { ip, port })
}

fn known_as(text: &str) -> Result<KnownAs, String> {
    let [local, public] = match text.split_once('=') {
        Some((local, public)) => [ip(local), ip(public)],
        None => [None, None],
    };
    match (local, public) {
        (Some(local), Some(public)) if local.is_ipv4() == public.is_ipv4() => {
            Ok(KnownAs { local, public })
        }
        _ => Err("write two addresses of one family, such as 10.0.0.5=198.51.100.1".to_owned()),
    }
}

/// Reads an IP address, of IPv6 in brackets or without.
fn ip(text: &str) -> Option<IpAddr> {
    let inside = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inside.unwrap_or(text).parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_has_the_port_of_stun() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1:3478"),
            ("192.0.2.1:5", "192.0.2.1:5"),
            ("2001:db8::1", "[2001:db8::1]:3478"),
            ("[2001:db8::1]", "[2001:db8::1]:3478"),
            ("[2001:db8::1]:5", "[2001:db8::1]:5"),
            ("5000", "[::]:5000"),
        ] {
            assert_eq!(listen(text).unwrap(), address.parse().unwrap(), "{text}");
        }
        for wrong in ["224.0.0.1", "192.0.2", "192.0.2.1:", ""] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_alternate_is_one_address() {
        let ip = IpAddr::from([192, 0, 2, 2]);
        assert_eq!(alternate("192.0.2.2"), Ok(Alternate { ip, port: None }));
        let port = Some(5);
        assert_eq!(alternate("192.0.2.2:5"), Ok(Alternate { ip, port }));
        for (wrong, told) in [
            ("0.0.0.0", "no address of its own"),
            ("[::]:5", "no address of its own"),
            ("255.255.255.255", "broadcast"),
            ("5000", "such as 192.0.2.2"),
            ("localhost", "such as 192.0.2.2"),
        ] {
            let error = alternate(wrong).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_others_know_an_address_by_is_one_of_the_same_family() {
        let known = KnownAs {
            local: [10, 0, 0, 5].into(),
            public: [198, 51, 100, 1].into(),
        };
        assert_eq!(known_as("10.0.0.5=198.51.100.1"), Ok(known));
        for wrong in ["10.0.0.5", "10.0.0.5=", "10.0.0.5=2001:db8::1", "a=b"] {
            assert!(known_as(wrong).is_err(), "{wrong}");
        }
    }
}
