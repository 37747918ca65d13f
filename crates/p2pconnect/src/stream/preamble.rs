//! What comes on a TCP connection before TLS: the peer's opening and its probe.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use p2pconnect_host::TcpStream;
use p2pconnect_proto::Opening;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::stream::hearing::{Hearing, Hearings};

/// The most that a probe holds. Segments are longer on no link but the loopback; a peer that sends more
/// breaks the protocol.
pub(crate) const MAX_PROBE: usize = 16 * 1024;

/// A punched TCP connection on which the peer's opening and probe come first, if they have not been read.
///
/// Whoever reads first checks them, so that our part of the TLS handshake does not wait for them.
#[derive(Debug)]
pub(crate) struct Preamble {
    stream: TcpStream,
    expected: Option<Expected>,
    hearings: Hearings,
    /// There once the peer has been heard.
    hearing: Option<Hearing>,
}

/// What is read before the stream begins. Bytes that have come in part are kept in the state.
#[derive(Debug)]
enum Expected {
    Opening {
        theirs: Opening,
        received: [u8; Opening::LEN],
        len: usize,
    },
    ProbeLen {
        received: [u8; size_of::<u16>()],
        len: usize,
    },
    Probe {
        left: usize,
    },
}

impl Expected {
    const PROBE: Self = Self::ProbeLen {
        received: [0; size_of::<u16>()],
        len: 0,
    };
}

impl Preamble {
    /// Takes a connection on which our opening has been sent, and expects the peer's, unless that has
    /// been read already, and its probe. Notes that the peer is heard when its opening has been read.
    pub(crate) fn expecting(
        stream: TcpStream,
        theirs: Opening,
        already_read: bool,
        hearings: Hearings,
    ) -> Self {
        let expected = if already_read {
            Expected::PROBE
        } else {
            Expected::Opening {
                theirs,
                received: [0; Opening::LEN],
                len: 0,
            }
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
            let next = match expected {
                Expected::Opening {
                    theirs,
                    received,
                    len,
                } => {
                    ready!(poll_fill(&mut self.stream, cx, received, len))?;
                    if Opening::from_bytes(*received) != *theirs {
                        return Poll::Ready(Err(stranger()));
                    }
                    self.hearing = Some(self.hearings.begin());
                    Some(Expected::PROBE)
                }
                Expected::ProbeLen { received, len } => {
                    ready!(poll_fill(&mut self.stream, cx, received, len))?;
                    let left = usize::from(u16::from_be_bytes(*received));
                    if left > MAX_PROBE {
                        return Poll::Ready(Err(stranger()));
                    }
                    Some(Expected::Probe { left })
                }
                Expected::Probe { left } => {
                    ready!(poll_skip(&mut self.stream, cx, left))?;
                    None
                }
            };
            self.expected = next;
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads until a buffer is full, of which `len` bytes are there already.
fn poll_fill(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
    len: &mut usize,
) -> Poll<io::Result<()>> {
    while *len < buffer.len() {
        let mut rest = ReadBuf::new(&mut buffer[*len..]);
        *len += ready!(poll_some(stream, cx, &mut rest))?;
    }
    Poll::Ready(Ok(()))
}

/// Reads so many bytes and forgets them.
fn poll_skip(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    left: &mut usize,
) -> Poll<io::Result<()>> {
    let mut bytes = [0; 1024];
    while *left > 0 {
        let part = (*left).min(bytes.len());
        *left -= ready!(poll_some(stream, cx, &mut ReadBuf::new(&mut bytes[..part])))?;
    }
    Poll::Ready(Ok(()))
}

/// Reads some bytes, of a stream that must not end here.
fn poll_some(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<usize>> {
    ready!(Pin::new(stream).poll_read(cx, buf))?;
    match buf.filled().len() {
        0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        read => Poll::Ready(Ok(read)),
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
