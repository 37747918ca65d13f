//! Where a coordinator is and who it must prove to be.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use crate::{InvalidHost, ParsePeerIdError, PeerId, join_host_port, parse_host, parse_port};

/// Where a coordinator is and who it must prove to be: `<server-id>@<host>:<port>`, or
/// `<server-id>@wss://<host>:<port>/<path>` where it is reached by a WebSocket alone.
///
/// The host is an IP address, in brackets where it is IPv6, or a name to look up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CoordinatorAddr {
    /// The identity that the coordinator's certificate must hold.
    pub id: PeerId,
    /// An IP address without brackets, or a host name.
    pub host: String,
    /// The port of the service, of UDP and of TCP.
    pub port: u16,
    /// What is asked for there, if it is a WebSocket.
    pub web: Option<WebPath>,
}

/// What a WebSocket is asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WebPath {
    /// Whether there is TLS of the web around it: `wss` and not `ws`.
    pub is_secure: bool,
    /// The path, with what may follow it, from its first `/` on.
    pub path: String,
}

/// The ports of `ws` and of `wss` (RFC 6455 section 3).
const WEB_PORTS: [u16; 2] = [80, 443];

/// What is asked for where nobody has named a path.
const USUAL_PATH: &str = "/p2pconnect";

impl WebPath {
    const fn scheme(&self) -> &'static str {
        match self.is_secure {
            true => "wss",
            false => "ws",
        }
    }

    /// Returns the port that need not be named.
    const fn usual_port(&self) -> u16 {
        WEB_PORTS[self.is_secure as usize]
    }
}

impl CoordinatorAddr {
    /// Returns the address of a coordinator at a socket's.
    #[must_use]
    pub fn at(id: PeerId, address: SocketAddr) -> Self {
        Self {
            id,
            host: address.ip().to_string(),
            port: address.port(),
            web: None,
        }
    }

    /// Returns where a WebSocket leads to the coordinator: as named, or else where one usually is
    /// on the same host.
    #[must_use]
    pub fn by_web(&self) -> Self {
        let web = WebPath {
            is_secure: true,
            path: USUAL_PATH.to_owned(),
        };
        match &self.web {
            Some(_) => self.clone(),
            None => Self {
                port: web.usual_port(),
                web: Some(web),
                ..self.clone()
            },
        }
    }

    /// Returns what is behind the `@`: the place, or the URL of the WebSocket.
    #[must_use]
    pub fn place(&self) -> String {
        let place = join_host_port(&self.host, self.port);
        match &self.web {
            Some(web) => format!("{}://{place}{}", web.scheme(), web.path),
            None => place,
        }
    }
}

impl fmt::Display for CoordinatorAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.place())
    }
}

impl FromStr for CoordinatorAddr {
    type Err = ParseCoordinatorAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(',') {
            return Err(ParseCoordinatorAddrError::Several);
        }
        let Some((id, place)) = text.split_once('@') else {
            return Err(match text.parse::<PeerId>() {
                Ok(_) => ParseCoordinatorAddrError::NoHost,
                Err(_) => ParseCoordinatorAddrError::NoId,
            });
        };
        let id = id.parse().map_err(ParseCoordinatorAddrError::Id)?;
        let (web, place) = web(place)?;
        // The colons of an address in brackets are no separators.
        let port_at = (!place.ends_with(']')).then(|| place.rsplit_once(':'));
        let (host, port) = match (port_at.flatten(), &web) {
            (Some((host, port)), _) => {
                let wrong = || ParseCoordinatorAddrError::Port {
                    found: port.to_owned(),
                };
                (host, parse_port(port).ok_or_else(wrong)?)
            }
            (None, Some(web)) => (place, web.usual_port()),
            (None, None) => return Err(ParseCoordinatorAddrError::NoPort),
        };
        let host = parse_host(host).map_err(ParseCoordinatorAddrError::Host)?;
        if host
            .parse()
            .is_ok_and(|ip: Ipv6Addr| ip.is_unicast_link_local())
        {
            return Err(ParseCoordinatorAddrError::NoZone {
                found: host.to_owned(),
            });
        }
        if host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()) {
            return Err(ParseCoordinatorAddrError::Unspecified {
                found: host.to_owned(),
            });
        }
        Ok(Self {
            id,
            host: host.to_owned(),
            port,
            web,
        })
    }
}

/// Reads the scheme and the path of a WebSocket, if it is one, and returns what is between them.
fn web(place: &str) -> Result<(Option<WebPath>, &str), ParseCoordinatorAddrError> {
    let Some((scheme, rest)) = place.split_once("://") else {
        return Ok((None, place));
    };
    let is_secure = match scheme {
        "wss" => true,
        "ws" => false,
        other => {
            return Err(ParseCoordinatorAddrError::Scheme {
                found: other.to_owned(),
            });
        }
    };
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_odd = |it: char| !it.is_ascii_graphic() || "\"#<>\\^`{|}@".contains(it);
    if path.contains(is_odd) {
        return Err(ParseCoordinatorAddrError::Path {
            found: path.to_owned(),
        });
    }
    let path = match path {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    Ok((Some(WebPath { is_secure, path }), place))
}

/// Why a text does not name a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCoordinatorAddrError {
    /// The host part is empty or malformed.
    #[error("the host behind '@' is wrong: {0}")]
    Host(InvalidHost),
    /// The part before `@` is not a peer id.
    #[error("the server id before '@' is wrong: {0}")]
    Id(ParsePeerIdError),
    /// There is a server id, and nothing behind it.
    #[error("the host and port are missing; write <server-id>@<host>:<port>, as `serve` prints it")]
    NoHost,
    /// There is no `@`.
    #[error("the server id is missing; write <server-id>@<host>:<port>, as `serve` prints it")]
    NoId,
    /// There is no `:port`.
    #[error(
        "the port is missing; write <server-id>@<host>:<port>, with 4433 unless `serve` has another"
    )]
    NoPort,
    /// The host is a link-local address, which each interface may have another machine at.
    #[error(
        "{found} is a link-local address, which needs the interface that leads there: \
         <server-id>@[{found}%eth0]:4433"
    )]
    NoZone {
        /// The text in the host's place.
        found: String,
    },
    /// The path of a WebSocket has signs that no URL has.
    #[error("'{found}' is no path of a WebSocket; write signs that no URL has as %20 and the like")]
    Path {
        /// The path.
        found: String,
    },
    /// The port is not a number from 1 to 65535.
    #[error("'{found}' is not a port number from 1 to 65535")]
    Port {
        /// The text in the port's place.
        found: String,
    },
    /// There is a scheme before the host, as in a URL.
    #[error(
        "a coordinator has no URL but wss://; leave '{found}://' out: <server-id>@<host>:<port>"
    )]
    Scheme {
        /// The text before `://`.
        found: String,
    },
    /// There are commas.
    #[error("only one coordinator can be named here; leave out the comma and what is behind it")]
    Several,
    /// The host stands for all addresses of a machine, and is none of them.
    #[error(
        "{found} stands for all addresses of the coordinator's machine; put the one in its place at which \
         peers reach it, or its name"
    )]
    Unspecified {
        /// The text in the host's place.
        found: String,
    },
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        let id = PeerId::from_public_key([1; 32]);
        for place in [
            "192.0.2.1:4433",
            "[2001:db8::1]:1",
            "[fe80::2%eth0]:4433",
            "coord.example.org:65535",
            "wss://coord.example.org:443/",
            "ws://[2001:db8::1]:8080/p2p?x=1",
        ] {
            let text = format!("{id}@{place}");
            assert_eq!(text.parse::<CoordinatorAddr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_web_socket_need_not_name_all() {
        let id = PeerId::from_public_key([1; 32]);
        for (place, whole) in [
            ("wss://h", "wss://h:443/"),
            ("ws://[::1]/x", "ws://[::1]:80/x"),
            ("wss://h:8443/a/b", "wss://h:8443/a/b"),
        ] {
            let address: CoordinatorAddr = format!("{id}@{place}").parse().unwrap();
            assert_eq!(address.place(), whole);
        }
        let odd = format!("{id}@wss://h/a b").parse::<CoordinatorAddr>();
        assert!(matches!(odd, Err(ParseCoordinatorAddrError::Path { .. })));
    }

    #[test]
    fn the_web_leads_to_the_same_host_unless_it_is_named() {
        let id = PeerId::from_public_key([1; 32]);
        for (place, by_web) in [
            ("h:4433", "wss://h:443/p2pconnect"),
            ("[2001:db8::1]:1", "wss://[2001:db8::1]:443/p2pconnect"),
            ("ws://h/x", "ws://h:80/x"),
        ] {
            let address: CoordinatorAddr = format!("{id}@{place}").parse().unwrap();
            assert_eq!(address.by_web().place(), by_web);
        }
    }

    #[test]
    fn what_was_meant_otherwise_is_pointed_out() {
        use ParseCoordinatorAddrError as E;
        let id = PeerId::from_public_key([1; 32]);
        let cases = [
            (id.to_string(), E::NoHost),
            (format!("{id}@h:1,{id}@g:1"), E::Several),
            (
                format!("{id}@http://h:4433"),
                E::Scheme {
                    found: "http".to_owned(),
                },
            ),
            (
                format!("{id}@[fe80::1]:4433"),
                E::NoZone {
                    found: "fe80::1".to_owned(),
                },
            ),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<CoordinatorAddr>(), Err(error), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_apart() {
        use ParseCoordinatorAddrError as E;
        let id = PeerId::from_public_key([1; 32]);
        let port = |text: &str| E::Port {
            found: text.to_owned(),
        };
        let cases = [
            ("192.0.2.1:4433".to_owned(), E::NoId),
            (
                "abc@192.0.2.1:4433".to_owned(),
                E::Id(ParsePeerIdError::Length { found: 3 }),
            ),
            (format!("{id}@host"), E::NoPort),
            (format!("{id}@[::1]"), E::NoPort),
            (
                format!("{id}@[[]:3"),
                E::Host(InvalidHost::Name {
                    found: "[[]".to_owned(),
                }),
            ),
            (
                format!("{id}@0.0.0.0:4433"),
                E::Unspecified {
                    found: "0.0.0.0".to_owned(),
                },
            ),
            (
                format!("{id}@[::]:4433"),
                E::Unspecified {
                    found: "::".to_owned(),
                },
            ),
            (format!("{id}@host:0"), port("0")),
            (format!("{id}@host:+4433"), port("+4433")),
            (format!("{id}@host:99999"), port("99999")),
            (format!("{id}@:1"), E::Host(InvalidHost::Missing)),
            (
                format!("{id}@2001:db8::1:1"),
                E::Host(InvalidHost::Brackets {
                    found: "2001:db8::1".to_owned(),
                }),
            ),
            (
                format!("{id}@203.0.113.256:4433"),
                E::Host(InvalidHost::Ipv4 {
                    found: "203.0.113.256".to_owned(),
                }),
            ),
            (
                format!("{id}@[2001:db8::1:1"),
                E::Host(InvalidHost::Name {
                    found: "[2001:db8::1".to_owned(),
                }),
            ),
        ];
        for (text, error) in cases {
            assert_eq!(
                text.parse::<CoordinatorAddr>().unwrap_err(),
                error,
                "{text}"
            );
        }
    }
}
