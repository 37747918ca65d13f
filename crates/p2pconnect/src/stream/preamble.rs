//! What comes on a TCP connection before TLS: the peer's opening and its probe.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use p2pconnect_host::TcpStream;
use p2pconnect_proto::{Opening, preamble::PreambleReader};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::stream::hearing::{Hearing, Hearings};

/// A punched TCP connection on which the peer's opening and probe come first, if they have not been
/// read.
///
/// Whoever reads first checks them, so that our part of the TLS handshake does not wait for them.
#[derive(Debug)]
pub(crate) struct Preamble {
    stream: TcpStream,
    expected: Option<PreambleReader>,
    hearings: Hearings,
    /// There once the peer has been heard.
    hearing: Option<Hearing>,
}

impl Preamble {
    /// Takes a connection on which our opening has been sent, and expects the peer's, unless that
    /// has been read already, and its probe. Notes that the peer is heard when its opening has been
    /// read.
    pub(crate) fn expecting(
        stream: TcpStream,
        theirs: Opening,
        already_read: bool,
        hearings: Hearings,
    ) -> Self {
        let expected = if already_read {
            PreambleReader::behind(theirs)
        } else {
            PreambleReader::new(theirs)
        };
        Self {
            stream,
            expected: Some(expected),
            hearing: already_read.then(|| hearings.begin()),
            hearings,
        }
    }

    /// Takes a connection that nothing is expected on before the stream begins.
    pub(crate) fn passed(stream: TcpStream) -> Self {
        Self {
            stream,
            expected: None,
            hearings: Hearings::default(),
            hearing: None,
        }
    }

    pub(crate) const fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    fn poll_expected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(expected) = &mut self.expected {
            ready!(poll_some(&mut self.stream, cx, expected))?;
            if expected.is_opened() && self.hearing.is_none() {
                self.hearing = Some(self.hearings.begin());
            }
            if expected.lacks() == 0 {
                self.expected = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads some of a preamble that is not whole, from a stream that must not end here.
fn poll_some(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    preamble: &mut PreambleReader,
) -> Poll<io::Result<()>> {
    let mut bytes = [0; 1024];
    let len = preamble.lacks().min(bytes.len());
    let mut buf = ReadBuf::new(&mut bytes[..len]);
    ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
    if buf.filled().is_empty() {
        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
    }
    Poll::Ready(preamble.take(buf.filled()).map_err(|_| stranger()))
}

/// Reads a preamble as far as its opening.
///
/// Cancel safe: what has come is kept.
pub(crate) async fn read_to_opening(
    stream: &mut (impl AsyncRead + Unpin),
    preamble: &mut PreambleReader,
) -> io::Result<()> {
    while !preamble.is_opened() {
        poll_fn(|cx| poll_some(stream, cx, preamble)).await?;
    }
    Ok(())
}

/// Reads a preamble to its end.
///
/// Cancel safe: what has come is kept.
pub(crate) async fn read_to_end(
    stream: &mut (impl AsyncRead + Unpin),
    preamble: &mut PreambleReader,
) -> io::Result<()> {
    while preamble.lacks() > 0 {
        poll_fn(|cx| poll_some(stream, cx, preamble)).await?;
    }
    Ok(())
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
