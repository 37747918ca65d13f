//! TLS 1.3 on a stream of bytes, with the streams of yamux inside: for networks that let no UDP
//! out.
//!
//! The stream is a TCP connection, or whatever is a [`Carrier`].

mod client;
mod driver;
mod frame;
mod mux;
mod server;
mod shared;
mod stream;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_host::TcpStream;
use p2pconnect_identity::peer_id_of;
use p2pconnect_proto::{COORDINATION_ALPN, PeerId};
use p2pconnect_stun::Onward;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_rustls::TlsStream;

use crate::{
    end::{CloseCode, End},
    setup::ConnectError,
};
use mux::Side;
use shared::{Handle, Shared};

pub(crate) use client::IDLE_TIMEOUT;
pub use client::{Client, HANDSHAKE_LIMIT};
pub use server::Server;
pub use stream::{RecvStream, SendStream};

/// What TLS runs over: bytes each way, in order, and something that knows how long these take.
pub trait Carrier: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Returns how long a round trip takes to where it ends, if that is known: to the other side of
    /// TLS, or to a proxy on the way there.
    fn round_trip(&self) -> Option<Duration>;
}

impl Carrier for TcpStream {
    fn round_trip(&self) -> Option<Duration> {
        self.info().round_trip
    }
}

impl Carrier for Onward {
    fn round_trip(&self) -> Option<Duration> {
        let stream: &TcpStream = self.as_ref();
        stream.round_trip()
    }
}

impl Carrier for Box<dyn Carrier> {
    fn round_trip(&self) -> Option<Duration> {
        (**self).round_trip()
    }
}

impl<T: Carrier> Carrier for TlsStream<T> {
    fn round_trip(&self) -> Option<Duration> {
        self.get_ref().0.round_trip()
    }
}

/// A connection by TLS. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Handle>);

impl Connection {
    /// Begins to use a connection whose handshake is done, and has taken a round trip.
    fn begin<T: Carrier>(
        tls: TlsStream<T>,
        side: Side,
        remote: SocketAddr,
        handshake: Duration,
        idle_timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let (_, state) = tls.get_ref();
        if state.alpn_protocol() != Some(COORDINATION_ALPN) {
            return Err(ConnectError::Failed(
                "the other side speaks another protocol".to_owned(),
            ));
        }
        let peer = state.peer_certificates().and_then(peer_id_of);
        let shared = Arc::new(Shared::new(Box::new(tls), side, remote, peer, handshake));
        // It ends with the connection, and by itself a moment after the last handle is dropped.
        tokio::spawn(driver::run(Arc::clone(&shared), idle_timeout));
        Ok(Self(Arc::new(Handle(shared))))
    }

    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), End> {
        let id = self.open().await?;
        Ok(self.halves(id))
    }

    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), End> {
        let id = self.accept().await?;
        Ok(self.halves(id))
    }

    pub(crate) async fn open_uni(&self) -> Result<SendStream, End> {
        let id = self.open().await?;
        Ok(SendStream::new(Arc::clone(&self.0), id))
    }

    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, End> {
        let id = self.accept().await?;
        Ok(RecvStream::alone(Arc::clone(&self.0), id))
    }

    fn halves(&self, id: u32) -> (SendStream, RecvStream) {
        let send = SendStream::new(Arc::clone(&self.0), id);
        (send, RecvStream::new(Arc::clone(&self.0), id))
    }

    async fn open(&self) -> Result<u32, End> {
        self.0.or_end(|state| state.mux.open()).await
    }

    async fn accept(&self) -> Result<u32, End> {
        self.0.or_end(|state| state.mux.accept()).await
    }

    pub(crate) fn close(&self, code: CloseCode, words: &str) {
        self.0.change(|state| state.mux.close(code, words));
    }

    pub(crate) async fn closed(&self) -> End {
        self.0.wait(|state| state.mux.end().cloned()).await
    }

    pub(crate) fn close_reason(&self) -> Option<End> {
        self.0.with(|state| state.mux.end().cloned())
    }

    pub(crate) async fn let_go(&self) {
        self.0.wait(|state| state.is_over().then_some(())).await;
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.0.with(|state| state.round_trip())
    }

    /// Counts bytes.
    pub(crate) fn heard(&self) -> u64 {
        self.0.with(|state| state.heard)
    }

    /// Sends a ping of yamux, which the other side answers.
    pub(crate) fn send_sign_of_life(&self) {
        self.0.change(|state| state.ask(Instant::now()));
    }

    pub(crate) async fn sign_of_life(&self) -> Result<(), End> {
        self.0
            .or_end(|state| state.mux.was_asked().then_some(()))
            .await
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.0.remote()
    }

    pub(crate) fn peer_id(&self) -> Option<PeerId> {
        self.0.peer()
    }
}

/// Returns what an error of the connection means for it.
fn end_of(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::TimedOut => End::Silence,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => End::Reset,
        _ => End::Failed(error.to_string()),
    }
}
