//! Messages as bytes: a four-byte length and the message.
//!
//! Decoding is bounded: the frame's length is checked before anything is read, and each list has a
//! number of items that are kept of it at most.

pub(crate) mod wire;

pub use wire::Wire;

/// The longest body of a frame in bytes, which is one message.
///
/// The largest honest message is a registration with a full list of allowed peers, 35 KiB.
pub const MAX_BODY: usize = 64 * 1024;

/// The most memory in bytes that decoding one body takes, whatever it holds: that of its bytes, and
/// as much again for the items of lists that take more memory than they have bytes.
pub const MAX_DECODED: usize = 2 * MAX_BODY;

/// The length of a frame's header in bytes.
pub const HEADER_LEN: usize = 4;

/// Encodes a message as a whole frame, header included.
///
/// # Errors
///
/// [`EncodeError::TooLong`] when the body would exceed [`MAX_BODY`].
pub fn encode<M: Wire>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let mut frame = vec![0; HEADER_LEN];
    message.write(&mut frame);
    let length = frame.len() - HEADER_LEN;
    if length > MAX_BODY {
        return Err(EncodeError::TooLong);
    }
    let length = u32::try_from(length).map_err(|_| EncodeError::TooLong)?;
    frame[..HEADER_LEN].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Reads the length of the body that follows a frame's header, in bytes.
///
/// # Errors
///
/// [`DecodeError::TooLong`] and [`DecodeError::Empty`] for lengths that no message has; nothing
/// more should be read from the stream then.
pub const fn body_len(header: [u8; HEADER_LEN]) -> Result<usize, DecodeError> {
    match u32::from_be_bytes(header) as usize {
        0 => Err(DecodeError::Empty),
        length if length > MAX_BODY => Err(DecodeError::TooLong { length }),
        length => Ok(length),
    }
}

/// Decodes the body of a frame, which must hold exactly one message.
///
/// # Errors
///
/// Any [`DecodeError`]; the bytes are somebody else's fault.
pub fn decode<M: Wire>(body: &[u8]) -> Result<M, DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::Empty);
    }
    if body.len() > MAX_BODY {
        return Err(DecodeError::TooLong { length: body.len() });
    }
    let mut rest = body;
    let message = M::read(&mut rest).ok_or(DecodeError::Malformed)?;
    match rest.len() {
        0 => Ok(message),
        count => Err(DecodeError::TrailingBytes { count }),
    }
}

/// Why a message cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message does not fit a frame.
    #[error("the message is longer than {MAX_BODY} bytes")]
    TooLong,
}

/// Why received bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A frame without a body.
    #[error("the frame is empty")]
    Empty,
    /// The body is not the expected message.
    #[error("the frame's body is not a message of this protocol")]
    Malformed,
    /// The frame announces more than [`MAX_BODY`] bytes.
    #[error("the frame announces {length} bytes, more than the {MAX_BODY} allowed")]
    TooLong {
        /// The announced length in bytes.
        length: usize,
    },
    /// There is something behind the message.
    #[error("{count} bytes follow the message")]
    TrailingBytes {
        /// How many bytes too many.
        count: usize,
    },
}
