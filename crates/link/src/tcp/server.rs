//! A coordinator's side of TLS.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_identity::{SecretKey, coordinator_config};
use p2pconnect_proto::COORDINATION_ALPN;
use p2pconnect_stun::Onward;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::{Carrier, Connection, Side};
use crate::setup::{ConnectError, SetupError};

/// What makes connections of those that come by TCP.
#[derive(Clone)]
pub struct Server {
    acceptor: TlsAcceptor,
    idle_timeout: Duration,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// Returns what accepts connections for a coordinator with the first of these keys, or with the
    /// one that a client asks for. A client from which nothing has come for `idle_timeout` counts
    /// as gone.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when the key cannot be used; a generated or loaded key always can.
    pub fn new(keys: &[&SecretKey], idle_timeout: Duration) -> Result<Self, SetupError> {
        let tls = coordinator_config(keys, COORDINATION_ALPN)?;
        Ok(Self {
            acceptor: Arc::new(tls).into(),
            idle_timeout,
        })
    }

    /// Makes a connection of one by TCP, on which STUN may have been spoken before.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn accept(
        &self,
        stream: Onward,
        remote: SocketAddr,
    ) -> Result<Connection, ConnectError> {
        stream.as_ref().give_up_after(self.idle_timeout)?;
        self.accept_over(stream, remote).await
    }

    /// Makes a connection of something that comes from `remote`, and over which the first bytes
    /// have come.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn accept_over<T: Carrier>(
        &self,
        carrier: T,
        remote: SocketAddr,
    ) -> Result<Connection, ConnectError> {
        let (began, side) = (Instant::now(), Side::Coordinator);
        match self.acceptor.accept(carrier).await {
            Ok(tls) => {
                let took = began.elapsed();
                Connection::begin(tls.into(), side, remote, took, self.idle_timeout)
            }
            Err(error) => Err(ConnectError::Failed(error.to_string())),
        }
    }
}
