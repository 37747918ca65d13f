//! What STUN may be spoken over besides TCP itself.

use std::{fmt, io, pin::Pin};

use p2pconnect_host::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes each way.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What becomes such a stream.
pub type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Makes of a TCP connection what STUN is spoken over, such as a WebSocket.
pub trait Over: fmt::Debug + Send + Sync {
    /// Makes it of a connection to a server.
    ///
    /// Dropping the future ends the attempt.
    fn open(&self, stream: TcpStream) -> Opening<'_>;
}
