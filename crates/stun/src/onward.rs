//! A TCP connection on which something else follows STUN.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use p2pconnect_host::TcpStream;
use stun_types::message::TransactionId;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use crate::{binding, connection::MAX_MESSAGES, framing::MessageReader};

/// A TCP connection on which STUN has been spoken, and something else goes on whose first byte
/// tells it apart (RFC 7983 section 7).
///
/// Where an answer is still to come, reading gives that to whoever has asked, and begins behind it.
/// If the other side goes on without answering, so does reading.
#[derive(Debug)]
pub struct Onward {
    reader: MessageReader<TcpStream>,
    awaited: Option<Awaited>,
    /// Lets others know how long the connection lasts.
    _lasts: Arc<()>,
}

/// An answer that is still to come.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) transaction: TransactionId,
    /// Who waits for it.
    pub(crate) asker: oneshot::Sender<SocketAddr>,
    /// How many other messages have come instead.
    pub(crate) others: u32,
}

impl Onward {
    /// Goes on behind what the reader has taken out, and behind an answer that is awaited.
    pub(crate) fn new(
        reader: MessageReader<TcpStream>,
        awaited: Option<Awaited>,
        lasts: Arc<()>,
    ) -> Self {
        Self {
            reader,
            awaited,
            _lasts: lasts,
        }
    }

    /// Reads until no answer is awaited any more.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(awaited) = &mut self.awaited {
            if self.reader.is_at_tls() {
                self.answer(None);
                break;
            }
            match self.reader.pop() {
                Ok(Some(message)) => {
                    awaited.others += 1;
                    let response = binding::response(&message, None).ok().flatten();
                    let response = response.filter(|it| it.transaction == awaited.transaction);
                    if let Some(response) = response {
                        self.answer(response.result.ok().map(|it| it.mapped));
                    } else if awaited.others > MAX_MESSAGES {
                        self.answer(None);
                    }
                }
                Ok(None) => {
                    if ready!(self.reader.poll_fill(cx))? == 0 {
                        self.answer(None);
                    }
                }
                // Something else has begun.
                Err(_) => self.answer(None),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn answer(&mut self, mapped: Option<SocketAddr>) {
        if let (Some(awaited), Some(mapped)) = (self.awaited.take(), mapped) {
            // Perhaps nobody waits for it any more.
            let _heard = awaited.asker.send(mapped).is_ok();
        }
    }
}

impl AsRef<TcpStream> for Onward {
    fn as_ref(&self) -> &TcpStream {
        self.reader.get_ref()
    }
}

impl AsyncRead for Onward {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        if self.reader.take_unread(buf) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(self.reader.get_mut()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Onward {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.reader.get_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.reader.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.reader.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
