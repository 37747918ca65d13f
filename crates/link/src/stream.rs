//! The streams of a connection.

use crate::{
    end::{CloseCode, StreamError},
    tcp,
};

/// The direction of a stream in which this side sends. Dropping it ends the direction.
#[derive(Debug)]
pub struct SendStream(Sender);

#[derive(Debug)]
enum Sender {
    Quic(quinn::SendStream),
    Tcp(tcp::SendStream),
}

impl From<quinn::SendStream> for SendStream {
    fn from(stream: quinn::SendStream) -> Self {
        Self(Sender::Quic(stream))
    }
}

impl From<tcp::SendStream> for SendStream {
    fn from(stream: tcp::SendStream) -> Self {
        Self(Sender::Tcp(stream))
    }
}

impl SendStream {
    /// Writes all bytes, and waits until there is room for them in what is sent. Not cancel safe:
    /// some of the bytes may have been written.
    ///
    /// # Errors
    ///
    /// [`StreamError`] if the other side takes no more.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        match &mut self.0 {
            Sender::Quic(stream) => Ok(stream.write_all(bytes).await?),
            Sender::Tcp(stream) => stream.write_all(bytes).await,
        }
    }

    /// Ends the direction behind what was written.
    ///
    /// # Errors
    ///
    /// [`StreamError::Over`] if it has ended already.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        match &mut self.0 {
            Sender::Quic(stream) => stream.finish().map_err(|_| StreamError::Over),
            Sender::Tcp(stream) => stream.finish(),
        }
    }

    /// Gives the direction up, with what was written and has not been sent. On a connection by TCP
    /// that ends the stream both ways, and the other side does not hear the code.
    pub fn reset(&mut self, code: impl Into<CloseCode>) {
        match &mut self.0 {
            // It fails on a stream that has ended meanwhile.
            Sender::Quic(stream) => drop(stream.reset(code.into().into())),
            Sender::Tcp(stream) => stream.reset(),
        }
    }
}

/// The direction of a stream in which this side receives. Dropping it gives the direction up.
#[derive(Debug)]
pub struct RecvStream(Receiver);

#[derive(Debug)]
enum Receiver {
    Quic(quinn::RecvStream),
    Tcp(tcp::RecvStream),
}

impl From<quinn::RecvStream> for RecvStream {
    fn from(stream: quinn::RecvStream) -> Self {
        Self(Receiver::Quic(stream))
    }
}

impl From<tcp::RecvStream> for RecvStream {
    fn from(stream: tcp::RecvStream) -> Self {
        Self(Receiver::Tcp(stream))
    }
}

impl RecvStream {
    /// Fills the bytes, as far as the stream goes, and returns how many there are. Not cancel safe:
    /// some may have been taken.
    ///
    /// # Errors
    ///
    /// [`StreamError`] if the stream breaks.
    pub async fn read_full(&mut self, bytes: &mut [u8]) -> Result<usize, StreamError> {
        match &mut self.0 {
            Receiver::Quic(stream) => match stream.read_exact(bytes).await {
                Ok(()) => Ok(bytes.len()),
                Err(quinn::ReadExactError::FinishedEarly(read)) => Ok(read),
                Err(quinn::ReadExactError::ReadError(error)) => Err(error.into()),
            },
            Receiver::Tcp(stream) => {
                let mut filled = 0;
                while filled < bytes.len() {
                    match stream.read(&mut bytes[filled..]).await? {
                        0 => break,
                        count => filled += count,
                    }
                }
                Ok(filled)
            }
        }
    }

    /// Appends what has come, `limit` bytes at most, as soon as there is something, and returns how
    /// much that is: nothing at the end. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`StreamError`] if the stream breaks.
    pub async fn read_more(
        &mut self,
        bytes: &mut Vec<u8>,
        limit: usize,
    ) -> Result<usize, StreamError> {
        match &mut self.0 {
            Receiver::Quic(stream) => {
                let chunk = stream.read_chunk(limit, true).await?;
                Ok(chunk.map_or(0, |chunk| {
                    bytes.extend_from_slice(&chunk.bytes);
                    chunk.bytes.len()
                }))
            }
            Receiver::Tcp(stream) => stream.read_more(bytes, limit).await,
        }
    }

    /// Gives the direction up, with what comes on it. On a connection by TCP the other side does
    /// not hear of it.
    pub fn stop(&mut self, code: impl Into<CloseCode>) {
        match &mut self.0 {
            // It fails on a stream that has ended meanwhile.
            Receiver::Quic(stream) => drop(stream.stop(code.into().into())),
            Receiver::Tcp(stream) => stream.stop(),
        }
    }
}
