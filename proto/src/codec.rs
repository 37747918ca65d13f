//! Messages as bytes: a four-byte length, a version byte, and the message in bincode.
//!
//! This is the only module that names bincode, so that another implementation of the same bytes
//! can take its place. Decoding is bounded twice: the frame's length is checked before anything is
//! read, and bincode itself counts what it would allocate against the same limit.

use bincode::{
    Decode, Encode,
    config::{BigEndian, Configuration, Fixint, Limit},
    error::{DecodeError as BincodeDecodeError, EncodeError as BincodeEncodeError},
};

/// The version of the message encoding, the first byte of every frame's body.
pub const VERSION: u8 = 1;

/// The longest body of a frame in bytes, version byte included.
///
/// The largest honest message is a registration with a full list of allowed peers, 34 KiB.
pub const MAX_BODY: usize = 64 * 1024;

/// The most memory in bytes that decoding one body takes, whatever it holds.
///
/// Room for one list's items is taken before they are read, as far as [`MAX_BODY`] goes; a
/// message has only one whose items take more memory than they have bytes.
pub const MAX_DECODED: usize = 2 * MAX_BODY;

/// The length of a frame's header in bytes.
pub const HEADER_LEN: usize = 4;

const CONFIG: Configuration<BigEndian, Fixint, Limit<MAX_BODY>> = bincode::config::standard()
    .with_big_endian()
    .with_fixed_int_encoding()
    .with_limit::<MAX_BODY>();

/// What can travel in a frame: every type in [`message`](crate::message).
///
/// Its only use is to spare callers the name of the encoding library.
pub trait Message: Encode + Decode<()> {}

impl<T: Encode + Decode<()>> Message for T {}

/// Encodes a message as a whole frame, header included.
///
/// # Errors
///
/// [`EncodeError::TooLong`] when the body would exceed [`MAX_BODY`].
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let mut frame = vec![0; HEADER_LEN];
    frame.push(VERSION);
    let written = bincode::encode_into_std_write(message, &mut frame, CONFIG)?;
    let body = written + 1;
    if body > MAX_BODY {
        return Err(EncodeError::TooLong);
    }
    let length = u32::try_from(body).map_err(|_| EncodeError::TooLong)?;
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
pub fn decode<M: Message>(body: &[u8]) -> Result<M, DecodeError> {
    let (&version, rest) = body.split_first().ok_or(DecodeError::Empty)?;
    if body.len() > MAX_BODY {
        return Err(DecodeError::TooLong { length: body.len() });
    }
    if version != VERSION {
        return Err(DecodeError::Version { found: version });
    }
    let (message, consumed) = bincode::decode_from_slice(rest, CONFIG)?;
    if consumed != rest.len() {
        return Err(DecodeError::TrailingBytes {
            count: rest.len() - consumed,
        });
    }
    Ok(message)
}

/// Why a message cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message does not fit a frame.
    #[error("the message is longer than {MAX_BODY} bytes")]
    TooLong,
}

impl From<BincodeEncodeError> for EncodeError {
    fn from(_: BincodeEncodeError) -> Self {
        // The message types hold no map, cell or borrowed lock: size is all that can go wrong.
        Self::TooLong
    }
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
    /// The other side speaks another version.
    #[error("the message has version {found}, this side speaks version {VERSION}")]
    Version {
        /// The version byte received.
        found: u8,
    },
}

impl From<BincodeDecodeError> for DecodeError {
    fn from(_: BincodeDecodeError) -> Self {
        Self::Malformed
    }
}
