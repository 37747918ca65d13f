//! A peer's side of a WebSocket.

use std::{fmt, net::SocketAddr};

use p2pconnect_host::{Host, TcpStream};
use p2pconnect_proto::CoordinatorAddr;
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{Error, http::Uri},
};

use super::{config, frames::Frames, outer::Outer};
use crate::{
    proxy::{Destination, PROXY_LIMIT, Proxy},
    setup::{ConnectError, SetupError, within},
    tcp::{self, Carrier},
    words::printable,
};

/// How to connect to one coordinator by a WebSocket.
#[derive(Clone)]
pub struct Client {
    tls: tcp::Client,
    outer: Option<Outer>,
    host: String,
    uri: Uri,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A connection by a WebSocket.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub connection: tcp::Connection,
    /// Who has issued the certificate of the TLS around it, if that is no public authority.
    pub intercepted_by: Option<String>,
}

impl Client {
    /// Returns how `tls` connects to the WebSocket at an address.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when the address is none of a WebSocket.
    pub fn new(tls: tcp::Client, address: &CoordinatorAddr) -> Result<Self, SetupError> {
        let uri = address.place().parse().map_err(std::io::Error::other)?;
        let is_secure = address.web.as_ref().is_some_and(|it| it.is_secure);
        let outer = is_secure.then(Outer::new).transpose()?;
        Ok(Self {
            tls,
            outer,
            host: address.host.clone(),
            uri,
        })
    }

    /// Connects to a coordinator, within [`HANDSHAKE_LIMIT`](tcp::HANDSHAKE_LIMIT).
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn connect(
        &self,
        host: &Host,
        address: SocketAddr,
    ) -> Result<Connected, ConnectError> {
        let connecting = async {
            let stream = host.tcp_socket_towards(address)?.connect(address).await?;
            self.connect_over(stream, address).await
        };
        within(tcp::HANDSHAKE_LIMIT, connecting).await
    }

    /// Connects to a coordinator by way of a proxy, within [`PROXY_LIMIT`].
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn connect_by(
        &self,
        proxy: &Proxy,
        host: &Host,
        to: Destination<'_>,
    ) -> Result<Connected, ConnectError> {
        let connecting = async {
            let stream = proxy.connect(host, to).await?;
            let remote = stream.peer_addr()?;
            self.connect_over(stream, remote).await
        };
        within(PROXY_LIMIT, connecting).await
    }

    async fn connect_over(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
    ) -> Result<Connected, ConnectError> {
        stream.give_up_after(tcp::IDLE_TIMEOUT)?;
        let (socket, intercepted_by) = self.open(stream).await?;
        let connected = self.tls.connect_over(socket, remote).await;
        let connected = connected.map_err(|error| beside(error, intercepted_by.as_ref()));
        Ok(Connected {
            connection: connected?,
            intercepted_by,
        })
    }

    /// Makes a WebSocket of a connection to the coordinator's web server, and says who has issued
    /// the certificate of the TLS around it, if that is no public authority.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn open(
        &self,
        stream: TcpStream,
    ) -> Result<(Box<dyn Carrier>, Option<String>), ConnectError> {
        let Some(outer) = &self.outer else {
            return Ok((self.upgrade(stream).await?, None));
        };
        let (stream, issuer) = outer.connect(stream, &self.host).await?;
        let upgraded = self.upgrade(tokio_rustls::TlsStream::from(stream)).await;
        let upgraded = upgraded.map_err(|error| beside(error, issuer.as_ref()));
        Ok((upgraded?, issuer))
    }

    async fn upgrade(&self, carrier: impl Carrier) -> Result<Box<dyn Carrier>, ConnectError> {
        let upgraded = client_async_with_config(self.uri.clone(), carrier, Some(config())).await;
        let (socket, _) = upgraded.map_err(not_upgraded)?;
        Ok(Box::new(Frames::new(socket)))
    }
}

/// Says beside an error who intercepts the TLS around the WebSocket, if somebody does.
fn beside(error: ConnectError, issuer: Option<&String>) -> ConnectError {
    match issuer {
        Some(issuer) => ConnectError::Intercepted {
            issuer: issuer.clone(),
            error: Box::new(error),
        },
        None => error,
    }
}

/// Says why there is no WebSocket.
fn not_upgraded(error: Error) -> ConnectError {
    let answer = match error {
        Error::Http(answer) => answer,
        Error::Io(error) => return ConnectError::Failed(error.to_string()),
        other => return ConnectError::NoWebSocket(printable(&other.to_string())),
    };
    let location = answer.headers().get("location");
    let location = location.map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
    let elsewhere = location.map(|it| format!(", see {it}")).unwrap_or_default();
    ConnectError::NoWebSocket(printable(&format!("{}{elsewhere}", answer.status())))
}
