//! The streams of a connection.

use crate::end::{CloseCode, StreamError};

/// The direction of a stream in which this side sends. Dropping it ends the direction.
#[derive(Debug)]
pub struct SendStream(Sender);

#[derive(Debug)]
enum Sender {
    Quic(quinn::SendStream),
}

impl From<quinn::SendStream> for SendStream {
    fn from(stream: quinn::SendStream) -> Self {
        Self(Sender::Quic(stream))
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
        }
    }

    /// Gives the direction up, with what was written and has not been sent.
    pub fn reset(&mut self, code: impl Into<CloseCode>) {
        let is_done = match &mut self.0 {
            Sender::Quic(stream) => stream.reset(code.into().into()).is_ok(),
        };
        if !is_done {
            tracing::debug!("a stream to be reset has ended meanwhile");
        }
    }
}

/// The direction of a stream in which this side receives. Dropping it gives the direction up.
#[derive(Debug)]
pub struct RecvStream(Receiver);

#[derive(Debug)]
enum Receiver {
    Quic(quinn::RecvStream),
}

impl From<quinn::RecvStream> for RecvStream {
    fn from(stream: quinn::RecvStream) -> Self {
        Self(Receiver::Quic(stream))
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
        }
    }

    /// Gives the direction up, with what comes on it.
    pub fn stop(&mut self, code: impl Into<CloseCode>) {
        let is_done = match &mut self.0 {
            Receiver::Quic(stream) => stream.stop(code.into().into()).is_ok(),
        };
        if !is_done {
            tracing::debug!("a stream to be stopped has ended meanwhile");
        }
    }
}
