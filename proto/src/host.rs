//! Hosts as people write them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a text names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHost {
    /// An IPv6 address, or a piece of one, without brackets: a port behind it would be taken for a
    /// part of it.
    #[error("an IPv6 address needs brackets: [{found}]")]
    Brackets {
        /// The text.
        found: String,
    },
    /// It looks like an IPv4 address, and is none. No host name ends with a number (RFC 1123
    /// section 2.1), so asking a name server for it would only take time.
    #[error("'{found}' is no IPv4 address, which has four numbers from 0 to 255, and no host name")]
    Ipv4 {
        /// The text.
        found: String,
    },
    /// There is nothing.
    #[error("the host is missing")]
    Missing,
    /// There is something that no name has, or no address in the brackets.
    #[error("'{found}' is not a host name or IP address")]
    Name {
        /// The text.
        found: String,
    },
}

/// Reads a host that stands before a port: a name, an IPv4 address, or an IPv6 address in brackets,
/// with a zone perhaps (RFC 6874). Returns it without the brackets.
///
/// # Errors
///
/// [`InvalidHost`]. Whether a name has an address is another matter.
pub fn parse_host(text: &str) -> Result<&str, InvalidHost> {
    let found = || text.to_owned();
    if let Some(inner) = text.strip_prefix('[') {
        let address = inner.strip_suffix(']').filter(|inner| is_ipv6(inner));
        return address.ok_or_else(|| InvalidHost::Name { found: found() });
    }
    let is_of_ipv6 = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
    if text.contains(':') && (is_ipv6(text) || text.chars().all(is_of_ipv6)) {
        return Err(InvalidHost::Brackets { found: found() });
    }
    // Letters of any script: names in them are looked up in the form that RFC 5891 gives them.
    let is_of_names = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let last = text.strip_suffix('.').unwrap_or(text).rsplit('.').next();
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|it| it.is_ascii_digit());
    if text.is_empty() {
        Err(InvalidHost::Missing)
    } else if !text.chars().all(is_of_names) {
        Err(InvalidHost::Name { found: found() })
    } else if last.is_some_and(is_number) && text.parse::<Ipv4Addr>().is_err() {
        Err(InvalidHost::Ipv4 { found: found() })
    } else {
        Ok(text)
    }
}

/// Writes a host and a port behind it so that [`parse_host`] and [`parse_port`] read them: an IPv6
/// address in brackets.
#[must_use]
pub fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Reads a port that stands behind a host: a number from 1 to 65,535, of nothing but digits.
#[must_use]
pub fn parse_port(text: &str) -> Option<u16> {
    // A sign in front would be understood by the library.
    let is_number = text.bytes().all(|it| it.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

/// Tells whether a text is an IPv6 address, with a zone perhaps: of the characters that need no
/// escape (RFC 6874 section 2), which those of interface names are.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let is_zone = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.chars().all(is_zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        for (text, host) in [
            ("localhost", "localhost"),
            ("coord.example.org", "coord.example.org"),
            ("coord.example.org.", "coord.example.org."),
            ("my_host-2", "my_host-2"),
            ("1and1.com", "1and1.com"),
            ("bücher.example", "bücher.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("[::1]", "::1"),
            ("[fe80::2%eth0]", "fe80::2%eth0"),
        ] {
            assert_eq!(parse_host(text), Ok(host));
            assert_eq!(join_host_port(host, 443), format!("{text}:443"));
        }
    }

    #[test]
    fn ports_are_numbers_without_a_sign() {
        assert_eq!(parse_port("1"), Some(1));
        assert_eq!(parse_port("04433"), Some(4433));
        for text in [
            "", "0", "65536", "+4433", "-1", " 1", "1 ", "0x1", "ssh", "١",
        ] {
            assert_eq!(parse_port(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_looks_like_an_ipv4_address_is_one() {
        for text in [
            "203.0.113.256",
            "1.2.3",
            "1.2.3.4.5",
            "010.0.0.1",
            "22",
            "1.2.3.4.",
        ] {
            let found = text.to_owned();
            assert_eq!(parse_host(text), Err(InvalidHost::Ipv4 { found }));
        }
    }

    #[test]
    fn what_no_name_has_is_refused() {
        for text in [
            "*",
            "my host",
            " ",
            "a/b",
            "a@b",
            "a\u{7}",
            "[]",
            "[[]",
            "[::1",
            "[host]",
            "::1]",
            "a:z",
            "[::1%]",
            "[fe80::2%eth0@if3]",
            "[fe80::2%eth0,eth1]",
        ] {
            let found = text.to_owned();
            assert_eq!(parse_host(text), Err(InvalidHost::Name { found }));
        }
        for text in ["::1", "fe80::1%eth0", "2001:db8:"] {
            let found = text.to_owned();
            assert_eq!(parse_host(text), Err(InvalidHost::Brackets { found }));
        }
        assert_eq!(parse_host(""), Err(InvalidHost::Missing));
    }
}
