//! Reads and writes the frames of the protocol on QUIC streams.

use super::shared::Room;
use p2pconnect_proto::codec::{self, DecodeError, HEADER_LEN};
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, WriteError};

/// Reads the body of the one frame on a stream; `None` when the stream ends before it begins.
///
/// Memory grows with what has arrived, not with what the header announces, and as far as there is
/// room.
pub(super) async fn read_body(
    stream: &mut RecvStream,
    room: &mut Room<'_>,
) -> Result<Option<Vec<u8>>, FrameError> {
    let mut header = [0; HEADER_LEN];
    match stream.read_exact(&mut header).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(ReadExactError::FinishedEarly(_)) => return Err(FrameError::Truncated),
        Err(ReadExactError::ReadError(error)) => return Err(error.into()),
    }
    let length = codec::body_len(header)?;
    let mut body = Vec::new();
    while body.len() < length {
        match stream.read_chunk(length - body.len(), true).await? {
            Some(chunk) if room.grow(chunk.bytes.len()) => body.extend_from_slice(&chunk.bytes),
            Some(_) => return Err(FrameError::NoRoom),
            None => return Err(FrameError::Truncated),
        }
    }
    Ok(Some(body))
}

/// Checks that nothing but the end of the stream follows the frame.
pub(super) async fn read_end(stream: &mut RecvStream) -> Result<(), FrameError> {
    match stream.read_chunk(1, true).await? {
        None => Ok(()),
        Some(_) => Err(FrameError::Surplus),
    }
}

/// Writes a whole frame and ends the stream.
pub(super) async fn write(stream: &mut SendStream, frame: &[u8]) -> Result<(), WriteError> {
    stream.write_all(frame).await?;
    // The stream may be closed already only because the client wants no answer.
    stream.finish().map_err(|_| WriteError::ClosedStream)
}

/// Why there is no frame to be had from a stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The bytes are not a frame of this protocol.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Too much of too many frames is being read.
    #[error("there is no room for more of the frame")]
    NoRoom,
    /// The stream or its connection has ended.
    #[error("the stream broke off")]
    Read(#[from] ReadError),
    /// There is something behind the frame.
    #[error("bytes follow the frame")]
    Surplus,
    /// The stream ended in the middle of a frame.
    #[error("the stream ended within a frame")]
    Truncated,
}

impl FrameError {
    /// Tells whether the client broke the protocol, and did not just give up.
    pub(super) const fn is_violation(&self) -> bool {
        match self {
            Self::Decode(_) | Self::Surplus | Self::Truncated => true,
            Self::NoRoom | Self::Read(_) => false,
        }
    }
}
