//! Where the servers of NATS are, and what is shown to them.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::{ConnectOptions, ServerAddr};
use p2pconnect_proto::join_host_port;

use crate::backoff;

/// How often a server is asked whether it is still there. One that has answered neither of two
/// questions is left: a second after a cable is cut, where the system alone would wait for minutes.
const PING_INTERVAL: Duration = Duration::from_millis(350);

/// How long an attempt to reach a server may take.
const CONNECTING: Duration = Duration::from_secs(2);

/// What is kept of one subject while there is no time to read it.
const SUBSCRIPTION: usize = 4096;

/// What waits to be sent at most.
const TO_SEND: usize = 4096;

/// Where the servers of NATS are, and what is shown to them.
#[derive(Clone)]
pub struct NatsOptions {
    servers: Vec<ServerAddr>,
    login: Option<Login>,
    credentials: Option<String>,
    ca: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq)]
enum Login {
    Token(String),
    User { name: String, password: String },
}

impl NatsOptions {
    /// Reads the addresses of servers: `nats://HOST:PORT`, or `tls://HOST:PORT`, with
    /// `USER:PASSWORD@` or `TOKEN@` in front of the host where the servers want that.
    ///
    /// # Errors
    ///
    /// [`OptionsError`], which has no secret in it.
    pub fn new(urls: &[String]) -> Result<Self, OptionsError> {
        let mut options = Self {
            servers: Vec::new(),
            login: None,
            credentials: None,
            ca: None,
        };
        for url in urls {
            let read: Result<ServerAddr, _> = url.trim().parse();
            let server = read.map_err(|_| OptionsError::NoAddress)?;
            if !matches!(server.scheme(), "nats" | "tls") || server.host().is_empty() {
                return Err(OptionsError::NoAddress);
            }
            let login = login(&server);
            if !options.servers.is_empty() && login != options.login {
                return Err(OptionsError::Logins);
            }
            options.login = login;
            options.servers.push(without_login(&server)?);
        }
        match options.servers.is_empty() {
            true => Err(OptionsError::NoAddress),
            false => Ok(options),
        }
    }

    /// Shows what a file of credentials holds: a JWT and the seed of an NKey.
    #[must_use]
    pub fn with_credentials(mut self, credentials: String) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Trusts the certificates in this file, of PEM, besides those that the system trusts.
    #[must_use]
    pub fn with_ca(mut self, file: PathBuf) -> Self {
        self.ca = Some(file);
        self
    }

    /// Returns where the servers are, without what is shown to them.
    #[must_use]
    pub fn servers(&self) -> Vec<String> {
        let shown = self.servers.iter();
        shown.map(|it| it.as_url_str().to_owned()).collect()
    }

    pub(crate) const fn addresses(&self) -> &Vec<ServerAddr> {
        &self.servers
    }

    /// Returns the options of the library.
    ///
    /// # Errors
    ///
    /// [`OptionsError::Credentials`] when the credentials are none.
    pub(crate) fn connect_options(&self) -> Result<ConnectOptions, OptionsError> {
        let mut options = ConnectOptions::new()
            .name("p2pconnect")
            .retry_on_initial_connect()
            .connection_timeout(CONNECTING)
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(SUBSCRIPTION)
            .client_capacity(TO_SEND)
            .reconnect_delay_callback(backoff::before)
            .no_echo();
        if let Some(login) = self.login.clone() {
            options = match login {
                Login::Token(token) => options.token(token),
                Login::User { name, password } => options.user_and_password(name, password),
            };
        }
        if let Some(ca) = self.ca.clone() {
            options = options.add_root_certificates(ca);
        }
        match &self.credentials {
            // The reason may quote what it has read.
            Some(credentials) => options
                .credentials(credentials)
                .map_err(|_| OptionsError::Credentials),
            None => Ok(options),
        }
    }

    /// Tells whether the library can make anything of them.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] where it cannot.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.connect_options().map(drop)
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("servers", &self.servers())
            .finish_non_exhaustive()
    }
}

fn login(server: &ServerAddr) -> Option<Login> {
    let name = server.username()?.to_owned();
    Some(match server.password() {
        Some(password) => Login::User {
            name,
            password: password.to_owned(),
        },
        None => Login::Token(name),
    })
}

/// Returns the address alone, which is all that may be logged.
fn without_login(server: &ServerAddr) -> Result<ServerAddr, OptionsError> {
    let place = join_host_port(server.host(), server.port());
    let plain = format!("{}://{place}", server.scheme());
    plain.parse().map_err(|_| OptionsError::NoAddress)
}

/// Why options are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is no address of a server, or one that is none.
    #[error(
        "write nats://HOST:PORT or tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@ in front of the host where NATS \
         wants that"
    )]
    NoAddress,
    /// The servers are shown different things.
    #[error("all servers of NATS are shown the same user and password, or token")]
    Logins,
    /// The credentials are none.
    #[error(
        "this is no file of credentials as `nsc` writes them, with a JWT and the seed of an NKey"
    )]
    Credentials,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn read(urls: &[&str]) -> Result<NatsOptions, OptionsError> {
        let urls: Vec<_> = urls.iter().map(|it| (*it).to_owned()).collect();
        NatsOptions::new(&urls)
    }

    #[test]
    fn what_is_shown_to_servers_is_shown_to_nobody_else() {
        for (url, login) in [
            (
                "nats://me:secret@192.0.2.1:4222",
                Login::User {
                    name: "me".to_owned(),
                    password: "secret".to_owned(),
                },
            ),
            (
                "nats://secret@192.0.2.1:4222",
                Login::Token("secret".to_owned()),
            ),
        ] {
            let options = read(&[url]).unwrap();
            assert!(options.login == Some(login), "{url}");
            assert_eq!(options.servers(), ["nats://192.0.2.1:4222"]);
            let shown = format!("{options:?} {:?}", options.addresses());
            assert!(!shown.contains("secret"), "{shown}");
        }
        let options = read(&["nats://192.0.2.1"]).unwrap();
        let options = options.with_credentials("secret".to_owned());
        assert_eq!(options.check(), Err(OptionsError::Credentials));
        assert!(!format!("{options:?}").contains("secret"));
    }

    #[test]
    fn servers_have_a_port_and_the_same_login() {
        let options = read(&["a.example", "tls://[2001:db8::1]:1"]).unwrap();
        let servers = ["nats://a.example:4222", "tls://[2001:db8::1]:1"];
        assert_eq!(options.servers(), servers);
        options.check().unwrap();
        let of_two = read(&["nats://a:b@x", "nats://a:c@y"]);
        assert_eq!(of_two.unwrap_err(), OptionsError::Logins);
        for wrong in ["", "http://x", "ws://x", "nats://", "nats://x:port"] {
            assert_eq!(
                read(&[wrong]).unwrap_err(),
                OptionsError::NoAddress,
                "{wrong}"
            );
        }
        assert_eq!(read(&[]).unwrap_err(), OptionsError::NoAddress);
    }
}
