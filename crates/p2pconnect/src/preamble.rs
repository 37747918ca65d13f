use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use p2pconnect_proto::Opening;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};

/// A punched TCP connection whose first bytes, in both directions, are the openings of the session.
///
/// Our opening is sent at once. The peer's is checked by whoever reads first, so that our part of
/// the TLS handshake does not wait for it.
#[derive(Debug)]
pub(crate) struct Preamble {
    stream: TcpStream,
    expected: Option<Expected>,
}

#[derive(Debug)]
struct Expected {
    opening: Opening,
    received: [u8; Opening::LEN],
    len: usize,
}

impl Preamble {
    /// Sends a greeting, which begins with our opening, and expects the peer's, unless it has been
    /// read already.
    ///
    /// # Errors
    ///
    /// Whatever the socket reports.
    pub(crate) async fn start(
        mut stream: TcpStream,
        greeting: &[u8],
        theirs: Opening,
        already_read: bool,
    ) -> io::Result<Self> {
        stream.write_all(greeting).await?;
        let expected = (!already_read).then_some(Expected {
            opening: theirs,
            received: [0; Opening::LEN],
            len: 0,
        });
        Ok(Self { stream, expected })
    }

    /// Takes a connection that nothing is expected on before the stream begins.
    pub(crate) const fn passed(stream: TcpStream) -> Self {
        Self {
            stream,
            expected: None,
        }
    }

    pub(crate) const fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    fn poll_expected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(expected) = &mut self.expected {
            let mut buf = ReadBuf::new(&mut expected.received[expected.len..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            let read = buf.filled().len();
            if read == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            expected.len += read;
            if expected.len == Opening::LEN {
                if Opening::from_bytes(expected.received) != expected.opening {
                    return Poll::Ready(Err(stranger()));
                }
                self.expected = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads what opens a connection.
///
/// Cancel safety: bytes read so far are lost, so the connection must be dropped.
pub(crate) async fn read_opening(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Opening> {
    let mut bytes = [0; Opening::LEN];
    stream.read_exact(&mut bytes).await?;
    Ok(Opening::from_bytes(bytes))
}

/// The error for a connection that does not open as the session's do.
pub(crate) fn stranger() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the connection does not open as those of the session",
    )
}

impl AsyncRead for Preamble {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_expected(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Preamble {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
