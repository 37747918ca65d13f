//! A coordinator's side of a WebSocket, perhaps behind a web server that speaks TLS for it.

use std::{
    fmt,
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use p2pconnect_host::TcpStream;
use p2pconnect_stun::framing::TLS_HANDSHAKE;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response},
};

use super::{Certificate, config, frames::Frames};
use crate::{
    setup::ConnectError,
    tcp::{Carrier, Connection, Server},
};

/// The field in which a web server says where its client is, behind what clients say themselves.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A WebSocket on which the first bytes have come.
pub struct Incoming {
    carrier: Box<dyn Carrier>,
    is_tls: bool,
    /// Where the client is.
    pub source: SocketAddr,
    /// Whether its port is known, too.
    pub has_port: bool,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

/// Makes a WebSocket of a connection by TCP from `remote`, with TLS around it if there is a
/// certificate for that. A web server on this machine says where its client is; nobody else is
/// believed.
///
/// # Errors
///
/// [`ConnectError`].
///
/// # Cancel safety
///
/// Dropping the future ends the attempt.
pub async fn receive(
    stream: TcpStream,
    remote: SocketAddr,
    certificate: Option<&Certificate>,
) -> Result<Incoming, ConnectError> {
    let local = stream.local_addr()?.ip().to_canonical();
    let came_from = remote.ip().to_canonical();
    let is_here = came_from.is_loopback() || came_from == local;
    let found = Arc::new(OnceLock::new());
    let head = Head(Arc::clone(&found));
    let (carrier, is_tls) = match certificate {
        Some(certificate) => upgrade(certificate.accept(stream).await?, head).await?,
        None => upgrade(stream, head).await?,
    };
    let forwarded = found.get().copied().filter(|_| is_here);
    let seen = || (remote.ip(), Some(remote.port()));
    let (ip, port) = forwarded.unwrap_or_else(seen);
    Ok(Incoming {
        carrier,
        is_tls,
        source: SocketAddr::new(ip, port.unwrap_or_else(|| remote.port())),
        has_port: port.is_some(),
    })
}

/// Makes a WebSocket of what a client has connected by, and tells whether TLS begins inside.
async fn upgrade(
    carrier: impl Carrier,
    head: Head,
) -> Result<(Box<dyn Carrier>, bool), ConnectError> {
    let accepted = accept_hdr_async_with_config(carrier, head, Some(config())).await;
    let socket = accepted.map_err(|error| ConnectError::Failed(error.to_string()))?;
    let mut frames = Frames::new(socket);
    poll_fn(|cx| frames.poll_fill(cx)).await?;
    let is_tls = frames.unread().first() == Some(&TLS_HANDSHAKE);
    Ok((Box::new(frames), is_tls))
}

impl Incoming {
    /// Tells whether the client has begun with TLS, to become a connection, and not with STUN.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Returns the bytes that come, those included that have.
    #[must_use]
    pub fn into_stream(self) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
        self.carrier
    }

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
        server.accept_over(self.carrier, self.source).await
    }
}

/// Where a request says that it comes from, perhaps without the port.
type Told = (IpAddr, Option<u16>);

/// Reads an address, alone or with a port behind it. One of IPv6 has brackets around it then, one
/// of IPv4 may have.
fn told(text: &str) -> Option<Told> {
    if let Ok(ip) = text.parse() {
        return Some((ip, None));
    }
    let (ip, port) = text.rsplit_once(':')?;
    let bare = ip.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    Some((bare.unwrap_or(ip).parse().ok()?, Some(port.parse().ok()?)))
}

/// Notes where a request says that it comes from.
struct Head(Arc<OnceLock<Told>>);

impl Callback for Head {
    fn on_request(self, request: &Request, answer: Response) -> Result<Response, ErrorResponse> {
        let mut fields = request.headers().get_all(FORWARDED_FOR).iter();
        let last = fields.next_back().and_then(|it| it.to_str().ok());
        let last = last.and_then(|it| it.rsplit(',').next());
        if let Some(told) = last.and_then(|it| told(it.trim())) {
            self.0.get_or_init(|| told);
        }
        Ok(answer)
    }
}
