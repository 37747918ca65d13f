//! A peer's side of TLS.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_host::Host;
use p2pconnect_identity::{SecretKey, Stranger};
use p2pconnect_proto::{Grease, PeerId, server_name};
use p2pconnect_stun::Onward;
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::{Carrier, Connection, Side};
use crate::{
    proxy::{Destination, PROXY_LIMIT, Proxy},
    setup::{ConnectError, SetupError, client_tls, within},
    words::printable,
};

/// How long a coordinator may take to answer both handshakes at one address. The system sends its
/// first packet again after 1 and 3 seconds, so two losses pass.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How long the other side may be silent before the connection counts as lost, as with QUIC.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How to connect to one coordinator.
#[derive(Clone)]
pub struct Client {
    connector: TlsConnector,
    stranger: Stranger,
    /// The coordinator that has to prove itself.
    server: PeerId,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Returns how a peer with this key connects to `server`. Who comes in the place of that is
    /// told to `stranger`. A protocol that means nothing may be offered besides.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when the key cannot be used; a generated or loaded key always can.
    pub fn new(
        key: &SecretKey,
        server: PeerId,
        stranger: &Stranger,
        grease: Option<Grease>,
    ) -> Result<Self, SetupError> {
        let tls = client_tls(key, server, stranger, grease)?;
        Ok(Self {
            connector: Arc::new(tls).into(),
            stranger: stranger.clone(),
            server,
        })
    }

    /// Connects to a coordinator by TCP, within [`HANDSHAKE_LIMIT`].
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
    ) -> Result<Connection, ConnectError> {
        let connecting = async {
            let stream = host.tcp_socket_towards(address)?.connect(address).await?;
            stream.give_up_after(IDLE_TIMEOUT)?;
            self.connect_over(stream, address).await
        };
        within(HANDSHAKE_LIMIT, connecting).await
    }

    /// Connects to a coordinator at `remote` on a connection by TCP on which STUN has been spoken,
    /// within [`HANDSHAKE_LIMIT`].
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn go_on(
        &self,
        stream: Onward,
        remote: SocketAddr,
    ) -> Result<Connection, ConnectError> {
        stream.as_ref().give_up_after(IDLE_TIMEOUT)?;
        within(HANDSHAKE_LIMIT, self.connect_over(stream, remote)).await
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
    ) -> Result<Connection, ConnectError> {
        let connecting = async {
            let stream = proxy.connect(host, to).await?;
            stream.give_up_after(IDLE_TIMEOUT)?;
            let remote = stream.peer_addr()?;
            self.connect_over(stream, remote).await
        };
        within(PROXY_LIMIT, connecting).await
    }

    /// Connects to a coordinator at `remote` over something that leads there.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn connect_over<T: Carrier>(
        &self,
        carrier: T,
        remote: SocketAddr,
    ) -> Result<Connection, ConnectError> {
        let name = ServerName::try_from(server_name(&self.server)).map_err(io::Error::other)?;
        let began = Instant::now();
        match self.connector.connect(name, carrier).await {
            Ok(tls) => {
                let took = began.elapsed();
                Connection::begin(tls.into(), Side::Peer, remote, took, IDLE_TIMEOUT)
            }
            Err(error) => Err(self.told(&error)),
        }
    }

    /// Says why the handshake has failed.
    fn told(&self, error: &io::Error) -> ConnectError {
        // The pinned verifier refuses with an error that nothing else in the handshake has.
        let wrong = rustls::CertificateError::ApplicationVerificationFailure;
        match error.get_ref().and_then(|it| it.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(error)) if *error == wrong => {
                ConnectError::WrongIdentity
            }
            Some(rustls::Error::InvalidCertificate(_)) => {
                let issuer = self.stranger.issuer().unwrap_or_default();
                ConnectError::Foreign(printable(&issuer))
            }
            Some(rustls::Error::InvalidMessage(_)) => ConnectError::NotTls,
            _ => ConnectError::Failed(error.to_string()),
        }
    }
}
