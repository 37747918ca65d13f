//! What both transports begin with, and why there is no connection.

use std::{io, time::Duration};

use p2pconnect_identity::{SecretKey, Stranger, TlsConfigError, client_config_noting};
use p2pconnect_proto::{COORDINATION_ALPN, Grease, PeerId};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::proxy::ProxyError;

/// Why a transport cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// QUIC's first packets need a cipher suite that the TLS library lacks.
    #[error("the TLS library lacks the cipher suite that QUIC begins with")]
    CipherSuite,
    /// There is no key to serve with.
    #[error("there is no key")]
    NoKey,
    /// The socket is of no use.
    #[error("the socket cannot be used")]
    Socket(#[from] io::Error),
    /// The key cannot be used.
    #[error("the TLS configuration cannot be made")]
    Tls(#[from] TlsConfigError),
}

/// Why connecting has failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The handshake has failed, in the transport's words.
    #[error("{0}")]
    Failed(String),
    /// Somebody else answers by TLS, whose certificate has been issued by this one.
    #[error("something else answers, with a certificate issued by {0}: is TLS intercepted here?")]
    Foreign(String),
    /// What answers does not speak TLS.
    #[error("what answers does not speak TLS: is there a portal to log in at, or another service?")]
    NotTls,
    /// The TLS of the web is intercepted by somebody whose certificate this one has issued, and
    /// there is no connection inside.
    #[error("{error}; TLS is intercepted, with a certificate issued by {issuer}")]
    Intercepted {
        /// Who has issued it.
        issuer: String,
        /// Why there is none.
        error: Box<Self>,
    },
    /// What answers is no coordinator's WebSocket.
    #[error("the answer is none of a coordinator behind a web server: {0}")]
    NoWebSocket(String),
    /// The proxy leads nowhere.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Nothing has answered for so long.
    #[error("no answer for {} s", .0.as_secs())]
    Silent(Duration),
    /// There is no socket to connect with.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The server has another key.
    #[error("the server has another key")]
    WrongIdentity,
}

/// Connects, or says after a time that the other side is silent.
pub(crate) async fn within<T>(
    limit: Duration,
    connecting: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let connected = timeout(limit, connecting).await;
    connected.map_err(|_| ConnectError::Silent(limit))?
}

/// Returns how a peer proves its key to a coordinator, and has it prove its own. A protocol that
/// means nothing may be offered besides.
pub(crate) fn client_tls(
    key: &SecretKey,
    server: PeerId,
    stranger: &Stranger,
    grease: Option<Grease>,
) -> Result<ClientConfig, SetupError> {
    let mut tls = client_config_noting(key, server, COORDINATION_ALPN, stranger)?;
    let reserved = grease.map(|it| it.alpn().to_vec());
    tls.alpn_protocols = reserved.into_iter().chain(tls.alpn_protocols).collect();
    Ok(tls)
}
