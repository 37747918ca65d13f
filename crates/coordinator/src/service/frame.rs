//! Reads and writes the frames of the protocol on streams.

use std::time::Duration;

use super::shared::Room;
use p2pconnect_link::{RecvStream, SendStream, StreamError};
use p2pconnect_proto::codec::{self, DecodeError, HEADER_LEN};

/// How long a client may take to send a request or to make room for a message: 64 KiB over a
/// slow line with a lost packet or two.
pub(super) const MESSAGE: Duration = Duration::from_secs(5);

/// Reads the body of the one frame on a stream; `None` when the stream ends before it begins.
///
/// Memory grows with what has arrived, not with what the header announces, and as far as there is
/// room.
pub(super) async fn read_body(
    stream: &mut RecvStream,
    room: &mut Room<'_>,
) -> Result<Option<Vec<u8>>, FrameError> {
    let mut header = [0; HEADER_LEN];
    match stream.read_full(&mut header).await? {
        HEADER_LEN => {}
        0 => return Ok(None),
        _ => return Err(FrameError::Truncated),
    }
    let length = codec::body_len(header)?;
    let mut body = Vec::new();
    while body.len() < length {
        let missing = length - body.len();
        match stream.read_more(&mut body, missing).await? {
            0 => return Err(FrameError::Truncated),
            read if room.grow(read) => {}
            _ => return Err(FrameError::NoRoom),
        }
    }
    Ok(Some(body))
}

/// Checks that nothing but the end of the stream follows the frame.
pub(super) async fn read_end(stream: &mut RecvStream) -> Result<(), FrameError> {
    match stream.read_full(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(FrameError::Surplus),
    }
}

/// Writes a whole frame and ends the stream.
pub(super) async fn write(stream: &mut SendStream, frame: &[u8]) -> Result<(), StreamError> {
    stream.write_all(frame).await?;
    // The stream may be closed already only because the client wants no answer.
    stream.finish()
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
    Read(#[from] StreamError),
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
