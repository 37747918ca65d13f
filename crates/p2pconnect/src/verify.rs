//! Proves that the other end of an open connection is the peer.

use std::{io, sync::Arc, time::Duration};

use p2pconnect_identity::{SecretKey, TlsConfigError, client_config, server_config};
use p2pconnect_proto::{PEER_ALPN, PeerId, Role, SessionToken};
use p2pconnect_punch::VerifyFailure;
use rustls::{CertificateError, ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::preamble::Preamble;

/// The controlling side's first application byte: "this connection is the one".
///
/// Both sides may finish several handshakes; only this byte makes them keep the same one. It costs
/// no round trip, since it travels right behind the handshake's last flight.
const NOMINATION: u8 = 1;

/// The longest that a verification may take.
///
/// Four flights at the longest round trips seen on the internet, with a few lost packets. The
/// agent's own limit is the shorter one, as a rule.
const LIMIT: Duration = Duration::from_secs(10);

/// What a side needs to verify the connections of one session.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    token: SessionToken,
    tls: Tls,
}

#[derive(Debug, Clone)]
enum Tls {
    Controlling(Arc<ClientConfig>),
    Controlled(Arc<ServerConfig>),
}

impl Verifier {
    pub(crate) fn new(
        key: &SecretKey,
        peer: PeerId,
        role: Role,
        token: SessionToken,
    ) -> Result<Self, TlsConfigError> {
        let tls = match role {
            Role::Controlling => Tls::Controlling(Arc::new(client_config(key, peer, PEER_ALPN)?)),
            Role::Controlled => {
                Tls::Controlled(Arc::new(server_config(key, Some(peer), PEER_ALPN)?))
            }
        };
        Ok(Self { token, tls })
    }

    /// Runs the handshake; on the controlled side, waits for the nomination too.
    ///
    /// Cancel safety: dropping the future resets the connection.
    pub(crate) async fn verify(
        self,
        stream: TcpStream,
        token_read: bool,
    ) -> Result<TlsStream<Preamble>, VerifyFailure> {
        match timeout(LIMIT, self.handshake(stream, token_read)).await {
            Ok(result) => result.map_err(|error| classify(&error)),
            Err(_) => Err(VerifyFailure::TimedOut),
        }
    }

    async fn handshake(
        self,
        stream: TcpStream,
        token_read: bool,
    ) -> io::Result<TlsStream<Preamble>> {
        let stream = Preamble::start(stream, self.token, token_read).await?;
        match self.tls {
            Tls::Controlling(config) => {
                let name = ServerName::try_from("p2pconnect").map_err(io::Error::other)?;
                let tls = TlsConnector::from(config).connect(name, stream).await?;
                Ok(tls.into())
            }
            Tls::Controlled(config) => {
                let mut tls = TlsAcceptor::from(config).accept(stream).await?;
                if tls.read_u8().await? != NOMINATION {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(tls.into())
            }
        }
    }
}

/// Tells the controlled side that this connection is the one.
pub(crate) async fn nominate(stream: &mut TlsStream<Preamble>) -> io::Result<()> {
    stream.write_u8(NOMINATION).await?;
    stream.flush().await
}

fn classify(error: &io::Error) -> VerifyFailure {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        )) => VerifyFailure::WrongIdentity,
        Some(_) => VerifyFailure::Stranger,
        None if error.kind() == io::ErrorKind::InvalidData => VerifyFailure::Stranger,
        None => VerifyFailure::Closed,
    }
}
