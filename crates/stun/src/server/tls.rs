//! Connections that come for TLS, to a port where somebody else waits for these. Their first byte,
//! or the first one behind STUN messages, tells.

use std::{future::pending, net::SocketAddr, sync::Arc};

use p2pconnect_host::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::limits::{Held, Slot};
use crate::{Onward, framing::MessageReader};

/// Connections that may wait to be taken up: what one turn of the scheduler brings.
const MAX_WAITING: usize = 256;

/// A connection to a STUN server on which a TLS handshake begins: with the first byte of all, or
/// behind STUN messages that have been answered. Nothing of the handshake is taken out.
///
/// It goes on being one of the server's connections until it is dropped, so that the server's
/// limits hold for all together.
#[derive(Debug)]
pub struct TlsConnection {
    /// The connection.
    pub stream: Onward,
    /// The other side's address.
    pub remote: SocketAddr,
    /// Its place among the connections.
    pub place: TlsPlace,
}

impl TlsConnection {
    pub(super) fn new(reader: MessageReader<TcpStream>, remote: SocketAddr, held: Held) -> Self {
        Self {
            stream: Onward::new(reader, None, Arc::default()),
            remote,
            place: TlsPlace {
                slot: held.slot,
                end: Some(held.end),
            },
        }
    }
}

/// The place of a connection among those of a server.
#[derive(Debug)]
pub struct TlsPlace {
    slot: Slot,
    end: Option<oneshot::Receiver<()>>,
}

impl TlsPlace {
    /// Notes that something has come: a connection that is quiet makes room for another one when
    /// there is no room else.
    pub fn heard(&self) {
        self.slot.heard();
    }

    /// Returns a future that is ready once the connection has to make room for another one; only
    /// the first one is.
    pub fn displaced(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let end = self.end.take();
        async {
            match end {
                // It is dropped, and nothing is said.
                Some(end) => drop(end.await),
                None => pending().await,
            }
        }
    }
}

/// Returns where a server hands connections over that come for TLS, and where they arrive.
pub fn tls_connections() -> (mpsc::Sender<TlsConnection>, mpsc::Receiver<TlsConnection>) {
    mpsc::channel(MAX_WAITING)
}

/// Hands a connection over, or ends it where there are too many.
pub(super) fn hand_over(connection: TlsConnection, taker: &mpsc::Sender<TlsConnection>) {
    if let Err(refused) = taker.try_send(connection) {
        let TlsConnection { remote, .. } = refused.into_inner();
        debug!(%remote, "nobody takes a TLS connection");
    }
}
