//! Cutting a TCP byte stream into STUN messages by their length field (RFC 8489 section 6.2.2).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// The most bytes of a message, header included, that are accepted.
///
/// A Binding request or response of ours has less than 200 bytes, one of other implementations
/// with everything that RFC 8489 and RFC 5780 define less than 1,500. The length field itself
/// would allow 64 KiB per connection.
pub const MAX_MESSAGE: usize = 2048;

/// The bytes of a message header (RFC 8489 section 5).
pub const HEADER: usize = 20;

/// The bytes read at once: holds any usual message, yet costs little per connection.
const CHUNK: usize = 512;

/// The value that bytes 4 to 7 of each message have (RFC 8489 section 5).
pub(crate) const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// The first byte of a TLS handshake (RFC 8446 section 5.1). STUN messages begin with two zero bits
/// and a small method, so with 0 or 1 (RFC 7983 section 7).
pub const TLS_HANDSHAKE: u8 = 22;

/// Why a byte stream is not a sequence of STUN messages. It is always the sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The first two bits of a message are not zero.
    #[error("the first byte {0:#04x} does not begin a stun message")]
    FirstByte(u8),
    /// The magic cookie is missing: another protocol, or STUN as of RFC 3489.
    #[error("the bytes lack the stun magic cookie")]
    MagicCookie,
    /// The length field is not a multiple of four.
    #[error("the stun length field {0} is not a multiple of four")]
    Misaligned(u16),
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("the stun length field {0} is above the limit")]
    TooLong(u16),
    /// The stream ended within a message.
    #[error("the stream ended within a stun message")]
    Truncated,
}

/// Returns how many bytes the message at the start of `bytes` has, or `None` if too few are there
/// to tell.
///
/// Whatever part of the header is there is checked, so that a stream of another protocol is
/// recognised by its first byte and not only after twenty.
///
/// # Errors
///
/// A [`FrameError`] if no message starts like that.
pub fn message_length(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    if first & 0xC0 != 0 {
        return Err(FrameError::FirstByte(first));
    }
    let &[_, _, high, low, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let cookie = &rest[..rest.len().min(MAGIC_COOKIE.len())];
    if !MAGIC_COOKIE.starts_with(cookie) {
        return Err(FrameError::MagicCookie);
    }
    let length = u16::from_be_bytes([high, low]);
    if length % 4 != 0 {
        return Err(FrameError::Misaligned(length));
    }
    let total = HEADER + usize::from(length);
    if total > MAX_MESSAGE {
        return Err(FrameError::TooLong(length));
    }
    Ok(Some(total))
}

/// Reads STUN messages, of which several may arrive in one piece or one in several.
///
/// Call [`pop`](Self::pop) until it returns `None`, then [`fill`](Self::fill). It never holds
/// more than [`MAX_MESSAGE`] bytes and one chunk of 512.
#[derive(Debug)]
pub struct MessageReader<R> {
    inner: R,
    buffer: Vec<u8>,
}

impl<R> MessageReader<R> {
    /// Makes a reader that has read nothing yet.
    pub const fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: Vec::new(),
        }
    }

    /// Returns the stream.
    pub const fn get_ref(&self) -> &R {
        &self.inner
    }

    /// Returns the stream, to write to it.
    pub const fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Tells whether the beginning of a message is waiting for its end.
    #[must_use]
    pub const fn has_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Takes the next message out of what has been read, `None` if it is not there as a whole.
    ///
    /// # Errors
    ///
    /// A [`FrameError`] if no message starts like that. The same is returned ever after.
    pub fn pop(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        match message_length(&self.buffer)? {
            Some(length) if length <= self.buffer.len() => {
                let rest = self.buffer.split_off(length);
                Ok(Some(std::mem::replace(&mut self.buffer, rest)))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Tells whether a TLS handshake begins where a message would (RFC 7983 section 7).
    pub(crate) fn is_at_tls(&self) -> bool {
        self.buffer.first() == Some(&TLS_HANDSHAKE)
    }

    /// Moves what has been read, and is no message, to a buffer, as much as has room there. Tells
    /// whether there was anything.
    pub(crate) fn take_unread(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.buffer.is_empty() {
            return false;
        }
        let rest = self
            .buffer
            .split_off(buf.remaining().min(self.buffer.len()));
        buf.put_slice(&self.buffer);
        self.buffer = rest;
        true
    }
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Reads once and returns the number of bytes, 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// What the stream reports.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what has been read stays in the reader.
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [0; CHUNK];
        let mut buf = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf))?;
        self.buffer.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Returns the next message, `None` if the stream ends between two.
    ///
    /// # Errors
    ///
    /// What the stream reports, or `InvalidData` with a [`FrameError`] inside.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`fill`](Self::fill).
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(message) = self.pop().map_err(invalid_data)? {
                return Ok(Some(message));
            }
            if self.fill().await? == 0 {
                return if self.has_partial() {
                    Err(invalid_data(FrameError::Truncated))
                } else {
                    Ok(None)
                };
            }
        }
    }
}

fn invalid_data(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
