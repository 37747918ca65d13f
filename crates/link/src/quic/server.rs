//! A coordinator's side of QUIC.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_host::{Host, UdpSocket};
use p2pconnect_identity::{SecretKey, coordinator_config};
use p2pconnect_proto::COORDINATION_ALPN;
use quinn::{Endpoint, ServerConfig, TransportConfig, VarInt, crypto::rustls::QuicServerConfig};

use super::{Connection, DATAGRAM_BUFFER, INITIAL_RTT, reset};
use crate::{
    end::CloseCode,
    setup::{ConnectError, SetupError},
};

/// Requests of one client at a time until it is allowed more. Each place takes 80 bytes whether it
/// is used or not, and a peer that is quiet uses none.
const FIRST_REQUEST_STREAMS: u32 = 7;

/// What a client may send on one stream before it is read: any request but a registration that
/// allows more than 500 peers, whose rest follows a round trip later. Whatever arrives is read at
/// once.
const STREAM_WINDOW: u32 = 16 * 1024;

/// What a client may send on all streams before it is read: a request of usual size on each, which
/// also bounds what 512 clients at one address make QUIC keep to 16 MiB.
const CONNECTION_WINDOW: u32 = 2 * STREAM_WINDOW;

/// What a client that reads nothing makes the coordinator keep: a hundred introductions.
const SEND_WINDOW: u64 = 128 * 1024;

/// Connection attempts that wait to be looked at. They are looked at at once, so this is what a
/// burst within one turn of the scheduler may bring.
const MAX_WAITING: usize = 1024;

/// What may arrive for one waiting attempt beyond its first packet: a client's whole first flight
/// is below 2 KiB.
const WAITING_BUFFER: u64 = 16 * 1024;

/// What may arrive for all waiting attempts.
const WAITING_BUFFER_TOTAL: u64 = 4 * 1024 * 1024;

/// The longest idle timeout that QUIC can express: in milliseconds, the largest of its integers.
pub const MAX_IDLE_TIMEOUT: Duration = Duration::from_millis((1 << 62) - 1);

/// What accepts QUIC connections on a socket.
#[derive(Debug, Clone)]
pub struct Server {
    endpoint: Endpoint,
    local_addr: SocketAddr,
}

impl Server {
    /// Begins to serve on a socket, with the first of these keys or the one that a client asks for;
    /// what outlives a process is derived from the first. A client from which no packet has come
    /// for `idle_timeout`, [`MAX_IDLE_TIMEOUT`] at most, counts as gone.
    ///
    /// # Errors
    ///
    /// [`SetupError`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(
        host: &Host,
        socket: UdpSocket,
        keys: &[&SecretKey],
        idle_timeout: Duration,
    ) -> Result<Self, SetupError> {
        let config = server(keys, idle_timeout)?;
        let first = keys.first().ok_or(SetupError::NoKey)?;
        let endpoint = host.quic_endpoint(socket, reset::endpoint_config(first), Some(config))?;
        Ok(Self {
            local_addr: endpoint.local_addr()?,
            endpoint,
        })
    }

    /// Returns the address of the socket.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns how many connections are kept, those in their handshake included, and those that
    /// have ended and are not forgotten yet.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Waits for the next attempt to connect; there is none any more once the server is closed.
    /// Cancel safe.
    pub async fn accept(&self) -> Option<Incoming> {
        self.endpoint.accept().await.map(Incoming)
    }

    /// Closes all connections, and accepts no more.
    pub fn close(&self, code: impl Into<CloseCode>, words: &str) {
        self.endpoint.close(code.into().into(), words.as_bytes());
    }

    /// Waits until no connection is left, also none that has ended and is not forgotten yet. Cancel
    /// safe.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// An attempt to connect, of which one packet has come. Dropping it refuses the connection.
#[derive(Debug)]
pub struct Incoming(quinn::Incoming);

impl Incoming {
    /// Returns where the attempt seems to come from.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Tells whether the client is known to receive what is sent there.
    #[must_use]
    pub fn is_validated(&self) -> bool {
        self.0.remote_address_validated()
    }

    /// Tells whether the client can be asked to show that.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        self.0.may_retry()
    }

    /// Asks the client to show that it receives what is sent to its address (RFC 9000 section
    /// 8.1.2). Refuses a client that cannot be asked.
    pub fn retry(self) {
        if let Err(error) = self.0.retry() {
            error.into_incoming().refuse();
        }
    }

    /// Sends the client away.
    pub fn refuse(self) {
        self.0.refuse();
    }

    /// Goes on with the handshake. That the connection is made shows that the client receives what
    /// is sent to its address.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Failed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn accept(self) -> Result<Connection, ConnectError> {
        let failed = |error: quinn::ConnectionError| ConnectError::Failed(error.to_string());
        let connection = self.0.accept().map_err(failed)?.await.map_err(failed)?;
        Ok(Connection {
            connection,
            endpoint: None,
        })
    }
}

fn server(keys: &[&SecretKey], idle_timeout: Duration) -> Result<ServerConfig, SetupError> {
    let tls = coordinator_config(keys, COORDINATION_ALPN)?;
    let quic = QuicServerConfig::try_from(tls).map_err(|_| SetupError::CipherSuite)?;
    let mut config = ServerConfig::with_crypto(Arc::new(quic));
    config
        .transport_config(Arc::new(transport(idle_timeout)))
        // QUIC shows that a client receives at another address with 1,200 bytes or more for each
        // packet that seems to come from there. One that has another address connects anew, by
        // which it proves that.
        .migration(false)
        .max_incoming(MAX_WAITING)
        .incoming_buffer_size(WAITING_BUFFER)
        .incoming_buffer_size_total(WAITING_BUFFER_TOTAL);
    Ok(config)
}

fn transport(idle_timeout: Duration) -> TransportConfig {
    let idle = u64::try_from(idle_timeout.as_millis()).ok();
    let idle = idle.and_then(|it| VarInt::from_u64(it).ok());
    let mut transport = TransportConfig::default();
    transport
        .initial_rtt(INITIAL_RTT)
        // A connection keeps a buffer of as much as it has ever sent at once. Nothing here is worth
        // larger packets, or several at once.
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false)
        .max_concurrent_bidi_streams(VarInt::from_u32(FIRST_REQUEST_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .max_idle_timeout(Some(idle.unwrap_or(VarInt::MAX).into()));
    transport
}
