//! A peer's side of QUIC.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_host::Host;
use p2pconnect_identity::{SecretKey, Stranger};
use p2pconnect_proto::{Grease, PeerId, server_name};
use quinn::{
    ClientConfig, ConnectionError, EndpointConfig, TransportConfig, TransportErrorCode, VarInt,
    crypto::rustls::QuicClientConfig,
};
use tokio::time::timeout;

use super::{Connection, DATAGRAM_BUFFER, INITIAL_RTT};
use crate::setup::{ConnectError, SetupError, client_tls};

/// How long a coordinator may take to answer the handshake at one address.
///
/// QUIC sends its first packet again after about 0.3, 1 and 2.3 seconds, so three losses pass.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// After what silence QUIC itself sends a PING. Only a coordinator that takes no datagrams lets it
/// come to that; it is short of the 30 seconds after which many NATs forget a UDP mapping.
const PING_AFTER: Duration = Duration::from_secs(25);

/// How long the other side may be silent before the connection counts as lost, in milliseconds:
/// two keep-alives, each of which QUIC repeats until it is acknowledged.
const IDLE_LIMIT_MS: u32 = 30_000;

/// How many notices the coordinator may be sending at a time.
const MAX_NOTICE_STREAMS: u32 = 16;

/// How to connect to one coordinator.
#[derive(Debug, Clone)]
pub struct Client {
    config: ClientConfig,
    /// The name by which the coordinator is asked for its identity.
    name: Arc<str>,
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
        let quic = QuicClientConfig::try_from(tls).map_err(|_| SetupError::CipherSuite)?;
        let mut transport = TransportConfig::default();
        transport
            .initial_rtt(INITIAL_RTT)
            .keep_alive_interval(Some(PING_AFTER))
            .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
            .max_concurrent_bidi_streams(0_u8.into())
            .max_concurrent_uni_streams(MAX_NOTICE_STREAMS.into());
        transport.max_idle_timeout(Some(VarInt::from_u32(IDLE_LIMIT_MS).into()));
        let mut config = ClientConfig::new(Arc::new(quic));
        config.transport_config(Arc::new(transport));
        Ok(Self {
            config,
            name: server_name(&server).into(),
        })
    }

    /// Connects to a coordinator, within [`HANDSHAKE_LIMIT`].
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
        let failed = |error: String| ConnectError::Failed(error);
        let socket = host.udp_socket_towards(address)?;
        let endpoint = host.quic_endpoint(socket, EndpointConfig::default(), None)?;
        let connecting = endpoint
            .connect_with(self.config.clone(), address, &self.name)
            .map_err(|error| failed(error.to_string()))?;
        let connected = timeout(HANDSHAKE_LIMIT, connecting).await;
        match connected.map_err(|_| ConnectError::Silent(HANDSHAKE_LIMIT))? {
            Ok(connection) => Ok(Connection {
                connection,
                endpoint: Some(Box::new(endpoint)),
            }),
            Err(error) if is_wrong_identity(&error) => Err(ConnectError::WrongIdentity),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// The pinned verifier refuses with an alert that nothing else in the handshake uses.
fn is_wrong_identity(error: &ConnectionError) -> bool {
    let refused = u8::from(rustls::AlertDescription::AccessDenied);
    matches!(error, ConnectionError::TransportError(error)
        if error.code == TransportErrorCode::crypto(refused))
}
