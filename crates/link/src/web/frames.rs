//! A stream of bytes in the messages of a WebSocket.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Bytes, Error, Message},
};

use super::MAX_MESSAGE;
use crate::tcp::Carrier;

/// The bytes that the binary messages of a WebSocket carry. Their borders mean nothing.
#[derive(Debug)]
pub(super) struct Frames<T> {
    socket: WebSocketStream<T>,
    /// What of the last message has not been read.
    unread: Bytes,
}

impl<T: Carrier> Frames<T> {
    pub(super) const fn new(socket: WebSocketStream<T>) -> Self {
        Self {
            socket,
            unread: Bytes::new(),
        }
    }

    /// Returns the bytes that have come and have not been read.
    pub(super) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Waits for some bytes, and leaves them there; none at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                None | Some(Ok(Message::Close(_))) => break,
                Some(Ok(Message::Text(_))) => {
                    let words = "a text in the place of bytes";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, words)));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Says how a WebSocket has ended.
fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::ConnectionReset.into(),
        other => io::Error::other(other.to_string()),
    }
}

impl<T: Carrier> AsyncRead for Frames<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_fill(cx))?;
        let count = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<T: Carrier> AsyncWrite for Frames<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
        let bytes = &bytes[..bytes.len().min(MAX_MESSAGE)];
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(broken)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(broken)
    }
}

impl<T: Carrier> Carrier for Frames<T> {
    fn round_trip(&self) -> Option<Duration> {
        self.socket.get_ref().round_trip()
    }
}
