//! A proxy on the way to a coordinator: HTTP CONNECT (RFC 9110 section 9.3.6) or SOCKS 5 (RFC
//! 1928). It passes on what TLS has encrypted.

mod http;
mod socks;
mod url;
mod variables;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use p2pconnect_host::{Host, LOOKUP_LIMIT, TcpStream};
use p2pconnect_proto::join_host_port;

use crate::words::printable;

pub use url::ParseProxyError;
pub use variables::{WrongVariable, proxy_of_variables};

/// How long a proxy may take until TLS through it is done: it looks up a name and connects.
pub const PROXY_LIMIT: Duration = Duration::from_secs(10);

/// A proxy. User and password are shown by nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    login: Option<Login>,
}

/// What the proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// HTTP, whose method CONNECT looks names up.
    Http,
    /// SOCKS 5, which is given an address.
    Socks,
    /// SOCKS 5, which looks names up.
    SocksWithNames,
}

impl Kind {
    /// Returns the scheme of its URL.
    const fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks => "socks5",
            Self::SocksWithNames => "socks5h",
        }
    }
}

/// Who uses a proxy.
#[derive(Clone, PartialEq, Eq)]
struct Login {
    user: String,
    password: String,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = join_host_port(&self.host, self.port);
        write!(f, "{}://{place}", self.kind.scheme())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a proxy is to connect to.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// A name, or an address without brackets.
    pub name: &'a str,
    /// The port.
    pub port: u16,
    /// The address of the name, where it is known here.
    pub address: Option<SocketAddr>,
}

impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join_host_port(self.name, self.port))
    }
}

/// Why a proxy leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Its name has no address.
    #[error("its name cannot be looked up: {0}")]
    Lookup(String),
    /// There is no connection to it.
    #[error("there is no connection to it: {0}")]
    Unreached(String),
    /// It wants to know who uses it.
    #[error("it {}{}", refused(*was_given), by_schemes(schemes))]
    Login {
        /// Whether it was told a user and a password.
        was_given: bool,
        /// How it wants to be told, as it says.
        schemes: Vec<String>,
    },
    /// It refuses.
    #[error("it refuses: {0}")]
    Refused(String),
    /// What is there is no proxy.
    #[error("its answer is none of a proxy: {0}")]
    NoProxy(String),
    /// The address of the coordinator is to be looked up here, and has not been found.
    #[error(
        "it has to be told an address, and none is known here; with socks5h:// it looks names up itself"
    )]
    NoAddress,
    /// The connection to it has ended.
    #[error("it has closed the connection")]
    Closed,
}

const fn refused(was_given: bool) -> &'static str {
    match was_given {
        true => "does not accept this user and password",
        false => "wants a user and a password: http://USER:PASSWORD@HOST:PORT",
    }
}

/// Says how a proxy wants to be told who uses it, where that is something else than is known here.
fn by_schemes(offered: &[String]) -> String {
    let is_known = |it: &String| it.eq_ignore_ascii_case("basic");
    if offered.is_empty() || offered.iter().any(is_known) {
        return String::new();
    }
    format!(
        ", by {}, which is not known here",
        printable(&offered.join(" or "))
    )
}

impl Proxy {
    /// Connects to a coordinator by way of the proxy, within [`PROXY_LIMIT`] if the caller sees to
    /// it. What is sent over the connection from then on arrives there.
    ///
    /// # Errors
    ///
    /// [`ProxyError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn connect(&self, host: &Host, to: Destination<'_>) -> Result<TcpStream, ProxyError> {
        let mut stream = self.reach(host).await?;
        match self.kind {
            Kind::Http => http::connect(&mut stream, to, self.login.as_ref()).await?,
            Kind::Socks => {
                let address = to.address.ok_or(ProxyError::NoAddress)?;
                let ip = address.ip().to_string();
                let to = Destination { name: &ip, ..to };
                socks::connect(&mut stream, to, self.login.as_ref()).await?;
            }
            Kind::SocksWithNames => {
                socks::connect(&mut stream, to, self.login.as_ref()).await?;
            }
        }
        Ok(stream)
    }

    /// Connects to the proxy itself, at the first of its addresses that answers.
    async fn reach(&self, host: &Host) -> Result<TcpStream, ProxyError> {
        let found = host.look_up(&self.host, self.port, LOOKUP_LIMIT).await;
        let found = found.map_err(|error| ProxyError::Lookup(error.to_string()))?;
        let mut failed = ProxyError::Lookup("it has no address".to_owned());
        for address in found {
            let connecting = async { host.tcp_socket_towards(address)?.connect(address).await };
            match connecting.await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = ProxyError::Unreached(error.to_string()),
            }
        }
        Err(failed)
    }
}

/// Says how the connection to a proxy has ended.
fn broken(error: &io::Error) -> ProxyError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => ProxyError::Closed,
        _ => ProxyError::Unreached(error.to_string()),
    }
}

/// Returns a destination's address, where its name is one.
fn literal(to: Destination<'_>) -> Option<IpAddr> {
    to.name.parse().ok()
}

#[cfg(test)]
mod tests;
