//! Where a coordinator is and who it must prove to be.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use crate::{InvalidHost, ParsePeerIdError, PeerId, join_host_port, parse_host, parse_port};

/// Where a coordinator is and who it must prove to be: `<server-id>@<host>:<port>`.
///
/// The host is an IP address, in brackets where it is IPv6, or a name to look up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CoordinatorAddr {
    /// The identity that the coordinator's certificate must hold.
    pub id: PeerId,
    /// An IP address without brackets, or a host name.
    pub host: String,
    /// The UDP port of the QUIC service.
    pub port: u16,
}

impl fmt::Display for CoordinatorAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, host, port } = self;
        write!(f, "{id}@{}", join_host_port(host, *port))
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
        if let Some((scheme, _)) = place.split_once("://") {
            return Err(ParseCoordinatorAddrError::Scheme {
                found: scheme.to_owned(),
            });
        }
        // The colons of an address in brackets are no separators.
        let port_at = (!place.ends_with(']')).then(|| place.rsplit_once(':'));
        let (host, port) = port_at.flatten().ok_or(ParseCoordinatorAddrError::NoPort)?;
        let port = parse_port(port).ok_or_else(|| ParseCoordinatorAddrError::Port {
            found: port.to_owned(),
        })?;
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
        })
    }
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
    /// The port is not a number from 1 to 65535.
    #[error("'{found}' is not a port number from 1 to 65535")]
    Port {
        /// The text in the port's place.
        found: String,
    },
    /// There is a scheme before the host, as in a URL.
    #[error("a coordinator has no URL; leave '{found}://' out: <server-id>@<host>:<port>")]
    Scheme {
        /// The text before `://`.
        found: String,
    },
    /// There are commas.
    #[error("only one coordinator can be named; leave out the comma and what is behind it")]
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
        ] {
            let text = format!("{id}@{place}");
            assert_eq!(text.parse::<CoordinatorAddr>().unwrap().to_string(), text);
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
