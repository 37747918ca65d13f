//! The addresses that a router names, of which only its own count.

use std::net::{Ipv4Addr, SocketAddrV4};

/// The port of HTTP where none is said.
const HTTP_PORT: u16 = 80;

/// The longest path, in bytes. Those of routers have some dozen.
const MAX_PATH: usize = 512;

/// Where something of a router is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(super) host: SocketAddrV4,
    /// Begins with a slash, and has no character that could end a line of a request.
    pub(super) path: String,
}

impl Url {
    /// Reads an absolute address. Names of hosts are not known here: routers name numbers, and
    /// looking a name up would ask somebody else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let scheme = text.get(..7)?;
        if !scheme.eq_ignore_ascii_case("http://") {
            return None;
        }
        let rest = &text[7..];
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = match authority.split_once(':') {
            Some((ip, port)) => SocketAddrV4::new(ip.parse().ok()?, port.parse().ok()?),
            None => SocketAddrV4::new(authority.parse::<Ipv4Addr>().ok()?, HTTP_PORT),
        };
        let path = rooted(path)?;
        Some(Self { host, path })
    }

    /// Reads an address that may be relative to this one, as far as routers use that: absolute, or
    /// the path alone.
    pub(super) fn join(&self, text: &str) -> Option<Self> {
        if text.contains("://") {
            return Self::parse(text);
        }
        let path = rooted(text)?;
        Some(Self {
            host: self.host,
            path,
        })
    }
}

/// Returns a path with the slash that it begins with, if a request can carry it.
fn rooted(path: &str) -> Option<String> {
    let is_sound = path.len() < MAX_PATH && path.bytes().all(|byte| byte.is_ascii_graphic());
    let slash = if path.starts_with('/') { "" } else { "/" };
    is_sound.then(|| format!("{slash}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_with_a_path() {
        let url = |text| Url::parse(text).map(|url| (url.host.to_string(), url.path));
        let found = |host: &str, path: &str| Some((host.to_owned(), path.to_owned()));
        assert_eq!(
            url("http://192.168.1.1:5000/rootDesc.xml"),
            found("192.168.1.1:5000", "/rootDesc.xml")
        );
        assert_eq!(url("HTTP://10.0.0.1"), found("10.0.0.1:80", "/"));
        assert_eq!(url("http://10.0.0.1?a"), found("10.0.0.1:80", "/?a"));
        for wrong in [
            "",
            "http://",
            "ftp://10.0.0.1/",
            "http://router/",
            "http://10.0.0.1:x/",
            "http://10.0.0.1:99999/",
            "http://[fe80::1]/",
            "http://a@10.0.0.1/",
            "http://10.0.0.1/a b",
            "http://10.0.0.1/a\r\nb",
            "éé://10.0.0.1",
        ] {
            assert_eq!(url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_relative_address_is_of_the_same_host() {
        let base = Url::parse("http://10.0.0.1:5000/a/root.xml");
        let joined = |text: &str| base.as_ref().and_then(|base| base.join(text));
        let path = |text: &str| joined(text).map(|url| url.path);
        assert_eq!(path("/ctl/IPConn").as_deref(), Some("/ctl/IPConn"));
        assert_eq!(path("ctl").as_deref(), Some("/ctl"));
        assert_eq!(path("a\nb"), None);
        assert_eq!(path(&"a".repeat(MAX_PATH)), None);
        let other = joined("http://10.0.0.9/ctl").map(|url| *url.host.ip());
        assert_eq!(other, Some(Ipv4Addr::new(10, 0, 0, 9)));
    }
}
