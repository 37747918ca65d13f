//! QUIC (RFC 9000) over UDP.

mod client;
mod reset;
mod server;

use std::{net::SocketAddr, time::Duration};

use p2pconnect_identity::peer_id_of;
use p2pconnect_proto::PeerId;
use quinn::{ConnectionError, Endpoint, ReadError, RecvStream, SendStream, VarInt, WriteError};
use rustls::pki_types::CertificateDer;

use crate::end::{CloseCode, End, StreamError};

pub use client::{Client, HANDSHAKE_LIMIT};
pub use server::{Incoming, MAX_IDLE_TIMEOUT, Server};

/// The round-trip time that is assumed until it is measured; a packet of the handshake that is lost
/// is sent again after three times as long.
///
/// RFC 9002 section 6.2.2 recommends 333 ms, and a dial of a peer that has just connected would
/// stand still for a second. On longer paths than this some packets are sent twice.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Requests of one client at a time: as many as it may have introductions in flight.
const MAX_REQUEST_STREAMS: u32 = 32;

/// What is kept of datagrams, which nobody reads: they are empty, and keep the line alive. It is
/// also the longest DATAGRAM frame that a side says it takes (RFC 9221 section 3), and QUIC counts
/// some tens of bytes more for each. No UDP datagram that it takes has 1,500 bytes, so none is too
/// long for what it has said.
const DATAGRAM_BUFFER: usize = 2048;

/// A QUIC connection. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Connection {
    connection: quinn::Connection,
    /// The endpoint of this connection alone, if there is one.
    endpoint: Option<Box<Endpoint>>,
}

impl Connection {
    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), End> {
        Ok(self.connection.open_bi().await?)
    }

    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), End> {
        Ok(self.connection.accept_bi().await?)
    }

    pub(crate) fn allow_more_requests(&self) {
        self.connection
            .set_max_concurrent_bi_streams(MAX_REQUEST_STREAMS.into());
    }

    pub(crate) async fn open_uni(&self) -> Result<SendStream, End> {
        Ok(self.connection.open_uni().await?)
    }

    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, End> {
        Ok(self.connection.accept_uni().await?)
    }

    pub(crate) fn close(&self, code: CloseCode, words: &str) {
        self.connection.close(code.into(), words.as_bytes());
    }

    pub(crate) async fn closed(&self) -> End {
        self.connection.closed().await.into()
    }

    pub(crate) fn close_reason(&self) -> Option<End> {
        self.connection.close_reason().map(End::from)
    }

    pub(crate) async fn let_go(&self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.wait_idle().await;
        }
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// Counts datagrams of UDP, those included that have nothing but an acknowledgement.
    pub(crate) fn heard(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    /// Tells whether the other side takes datagrams. A limit that leaves no byte may leave no room
    /// for the frame's head either.
    pub(crate) fn can_be_asked(&self) -> bool {
        let room = self.connection.max_datagram_size();
        room.is_some_and(|room| room > 0)
    }

    /// Sends an empty datagram (RFC 9221), which is acknowledged. QUIC's own keep-alive would do
    /// the same, but at moments of its own.
    pub(crate) fn send_sign_of_life(&self) {
        if let Err(error) = self.connection.send_datagram(Default::default()) {
            tracing::trace!(%error, "left to QUIC to keep the line alive");
        }
    }

    pub(crate) async fn sign_of_life(&self) -> Result<(), End> {
        self.connection.read_datagram().await?;
        Ok(())
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    pub(crate) fn peer_id(&self) -> Option<PeerId> {
        let identity = self.connection.peer_identity()?;
        peer_id_of(&identity.downcast::<Vec<CertificateDer<'static>>>().ok()?)
    }
}

impl From<CloseCode> for VarInt {
    fn from(code: CloseCode) -> Self {
        Self::from_u64(code.0).unwrap_or(Self::MAX)
    }
}

impl From<VarInt> for CloseCode {
    fn from(code: VarInt) -> Self {
        Self(code.into_inner())
    }
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(frame) => Self::Closed {
                code: frame.error_code.into(),
                words: String::from_utf8_lossy(&frame.reason).into_owned(),
            },
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::TimedOut => Self::Silence,
            ConnectionError::Reset => Self::Reset,
            other @ (ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::CidsExhausted) => Self::Failed(other.to_string()),
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::GivenUp(code.into()),
            ReadError::ConnectionLost(error) => Self::Ended(error.into()),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Over,
        }
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::GivenUp(code.into()),
            WriteError::ConnectionLost(error) => Self::Ended(error.into()),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Over,
        }
    }
}
