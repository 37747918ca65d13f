//! Where streams are forwarded to.

use std::fmt;

use p2pconnect_proto::{InvalidHost, join_host_port, parse_host, parse_port};

use crate::words::escaped;

/// A TCP service, by its name or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join_host_port(&self.host, self.port))
    }
}

/// Reads `HOST:PORT`, and says what may be meant by what is not that.
pub(super) fn target(text: &str) -> Result<Target, String> {
    let text = text.trim();
    let plain = "streams are carried to a TCP address";
    if let Some((scheme, rest)) = text.split_once("://") {
        let (scheme, rest) = (escaped(scheme), escaped(rest.trim_end_matches('/')));
        return Err(format!("{plain}; leave '{scheme}://' out: {rest}"));
    }
    if let Some((user, place)) = text.rsplit_once('@') {
        let (user, place) = (escaped(user), escaped(place));
        return Err(format!("{plain}; leave '{user}@' out: {place}"));
    }
    // The colons of an address in brackets are no separators.
    let port_at = (!text.ends_with(']')).then(|| text.rsplit_once(':'));
    let (host, port) = port_at
        .flatten()
        .ok_or("the port is missing; write HOST:PORT, such as localhost:22")?;
    let host = parse_host(host).map_err(|error| match error {
        InvalidHost::Missing => {
            "the host is missing; write HOST:PORT, such as localhost:22".to_owned()
        }
        InvalidHost::Name { found } if found == "*" => format!(
            "'*' is no host to connect to; a service on this machine is localhost:{}",
            escaped(port)
        ),
        InvalidHost::Brackets { found } => format!(
            "an IPv6 address needs brackets; write [{}]:{}",
            escaped(&found),
            escaped(port)
        ),
        error => format!(
            "{}; write HOST:PORT, such as localhost:22",
            escaped(&error.to_string())
        ),
    })?;
    let port = parse_port(port)
        .ok_or_else(|| format!("'{}' is not a port number from 1 to 65535", escaped(port)))?;
    Ok(Target {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn where_to_forward_to_is_an_address_and_no_url() {
        for right in [
            "localhost:22",
            "[::1]:22",
            "[fe80::1%eth0]:22",
            "192.0.2.1:80",
        ] {
            assert_eq!(target(&format!("{right} ")).unwrap().to_string(), right);
        }
        for (wrong, told) in [
            ("http://localhost:80", "localhost:80"),
            ("::1:22", "[::1]:22"),
            ("localhost", "port"),
            ("[::1]", "the port is missing"),
            ("user@localhost:22", "leave 'user@' out: localhost:22"),
            (":22", "host"),
            ("localhost:0", "0"),
            ("*:22", "a service on this machine is localhost:22"),
            ("my host:22", "'my host' is not a host name"),
            ("[localhost]:22", "'[localhost]' is not a host name"),
            ("203.0.113.256:22", "four numbers from 0 to 255"),
            ("1.2.3:22", "four numbers from 0 to 255"),
        ] {
            let error = target(wrong).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
