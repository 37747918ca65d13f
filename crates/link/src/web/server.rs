//! A coordinator's side of a WebSocket, perhaps behind a web server that speaks TLS for it.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use p2pconnect_host::TcpStream;
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response},
};

use super::{config, frames::Frames};
use crate::{
    setup::ConnectError,
    tcp::{Connection, Server},
};

/// The field in which a web server says where its client is, behind what clients say themselves.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A WebSocket on which the first bytes have come.
#[derive(Debug)]
pub struct Incoming {
    frames: Frames<TcpStream>,
    /// Where the client is.
    pub source: SocketAddr,
}

/// Makes a WebSocket of a connection by TCP from `remote`. A web server on this machine says where
/// its client is; nobody else is believed.
///
/// # Errors
///
/// [`ConnectError`].
///
/// # Cancel safety
///
/// Dropping the future ends the attempt.
pub async fn receive(stream: TcpStream, remote: SocketAddr) -> Result<Incoming, ConnectError> {
    let local = stream.local_addr()?.ip().to_canonical();
    let is_here = |ip: IpAddr| ip.is_loopback() || ip == local;
    let found = Arc::new(OnceLock::new());
    let head = Head(Arc::clone(&found));
    let accepted = accept_hdr_async_with_config(stream, head, Some(config())).await;
    let socket = accepted.map_err(|error| ConnectError::Failed(error.to_string()))?;
    let mut frames = Frames::new(socket);
    poll_fn(|cx| frames.poll_fill(cx)).await?;
    let forwarded = found
        .get()
        .copied()
        .filter(|_| is_here(remote.ip().to_canonical()));
    let source = forwarded.map(|ip| SocketAddr::new(ip, remote.port()));
    Ok(Incoming {
        frames,
        source: source.unwrap_or(remote),
    })
}

impl Incoming {
    /// Makes a connection of it.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn accept(self, server: &Server) -> Result<Connection, ConnectError> {
        server.accept_over(self.frames, self.source).await
    }
}

/// Notes where a request says that it comes from.
struct Head(Arc<OnceLock<IpAddr>>);

impl Callback for Head {
    fn on_request(self, request: &Request, answer: Response) -> Result<Response, ErrorResponse> {
        let mut fields = request.headers().get_all(FORWARDED_FOR).iter();
        let last = fields.next_back().and_then(|it| it.to_str().ok());
        let last = last.and_then(|it| it.rsplit(',').next());
        if let Some(ip) = last.and_then(|it| it.trim().parse().ok()) {
            self.0.get_or_init(|| ip);
        }
        Ok(answer)
    }
}
