//! Reads the URL of a proxy, and repeats nothing of it that may be a password.

use std::str::FromStr;

use p2pconnect_proto::{parse_host, parse_port};

use super::{Kind, Login, Proxy};

/// The port of a proxy whose URL names none: that of HTTP, and that of SOCKS.
const HTTP_PORT: u16 = 80;
const SOCKS_PORT: u16 = 1080;

/// The longest user and password: SOCKS has no room for more (RFC 1929).
const MAX_LOGIN: usize = 255;

/// Why a text does not name a proxy. It holds nothing of the text but the scheme, since there may
/// be a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseProxyError {
    /// The scheme is none of those that are known.
    #[error("proxies are spoken to by http://, socks5:// or socks5h://, and not by {found}://")]
    Scheme {
        /// The scheme.
        found: &'static str,
    },
    /// The host is missing or malformed.
    #[error("the proxy's host is wrong; write http://HOST:PORT")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the proxy's port is no number from 1 to 65535; write http://HOST:PORT")]
    Port,
    /// The user or the password is malformed or too long.
    #[error("the proxy's user or password is wrong; write signs such as @ and : as %40 and %3A")]
    Login,
    /// There is something behind the port.
    #[error("there is something behind the proxy's port; write http://HOST:PORT")]
    Path,
}

impl FromStr for Proxy {
    type Err = ParseProxyError;

    /// Reads `http://`, `socks5://` or `socks5h://`, `USER:PASSWORD@` if need be, the host and the
    /// port. Without a scheme, it is HTTP.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let kind = kind(&scheme.to_ascii_lowercase())?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(self::login(login)?), place),
            None => (None, rest),
        };
        if place.contains(['/', '?', '#']) {
            return Err(ParseProxyError::Path);
        }
        // The colons of an address in brackets are no separators.
        let port_at = (!place.ends_with(']')).then(|| place.rsplit_once(':'));
        let (host, port) = match port_at.flatten() {
            Some((host, port)) => (host, parse_port(port).ok_or(ParseProxyError::Port)?),
            None => (place, usual_port(kind)),
        };
        let host = parse_host(host).map_err(|_| ParseProxyError::Host)?;
        Ok(Self {
            kind,
            host: host.to_owned(),
            port,
            login,
        })
    }
}

fn kind(scheme: &str) -> Result<Kind, ParseProxyError> {
    let other = |found| Err(ParseProxyError::Scheme { found });
    match scheme {
        "http" => Ok(Kind::Http),
        "socks5" | "socks" => Ok(Kind::Socks),
        "socks5h" => Ok(Kind::SocksWithNames),
        "https" => other("https"),
        "socks4" | "socks4a" => other("socks4"),
        // It may be a user's name.
        _ => other("another scheme"),
    }
}

const fn usual_port(kind: Kind) -> u16 {
    match kind {
        Kind::Http => HTTP_PORT,
        Kind::Socks | Kind::SocksWithNames => SOCKS_PORT,
    }
}

fn login(text: &str) -> Result<Login, ParseProxyError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decoded = |text| decoded(text).filter(|it| it.len() <= MAX_LOGIN);
    let login = decoded(user).zip(decoded(password));
    let (user, password) = login.ok_or(ParseProxyError::Login)?;
    if user.is_empty() || user.contains(':') {
        return Err(ParseProxyError::Login);
    }
    Ok(Login { user, password })
}

/// Returns a text with its percent-encoded bytes (RFC 3986 section 2.1) as they are.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_what_is_spoken_and_with_whom() {
        for (text, shown) in [
            ("http://192.0.2.1:3128", "http://192.0.2.1:3128"),
            ("proxy.example:8080", "http://proxy.example:8080"),
            ("HTTP://proxy.example/", "http://proxy.example:80"),
            ("socks5://[2001:db8::1]", "socks5://[2001:db8::1]:1080"),
            ("socks5h://u:p%40%3a@h:1", "socks5h://h:1"),
        ] {
            let proxy: Proxy = text.parse().unwrap();
            assert_eq!(proxy.to_string(), shown);
            assert_eq!(format!("{proxy:?}"), shown);
        }
        let proxy: Proxy = "socks5h://uz%40x:p%40%3a@h:1".parse().unwrap();
        let login = proxy.login.unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.as_str()),
            ("uz@x", "p@:")
        );
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        use ParseProxyError as E;
        for (text, wrong) in [
            ("https://u:secret@h:1", E::Scheme { found: "https" }),
            (
                "secret://h:1",
                E::Scheme {
                    found: "another scheme",
                },
            ),
            ("http://u:secret@h:0", E::Port),
            ("http://u:secret@", E::Host),
            ("http://u:sec%ret@h:1", E::Login),
            ("http://:secret@h:1", E::Login),
            ("http://u:secret@h:1/x", E::Path),
        ] {
            let error = text.parse::<Proxy>().unwrap_err();
            assert_eq!(error, wrong, "{text}");
            assert!(!format!("{error} {error:?}").contains("sec"), "{error}");
        }
    }
}
