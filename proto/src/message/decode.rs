//! Decoding of the requests with lists whose items take more memory than they have bytes.
//!
//! A list that is too long is decoded like any other, so that the receiver can say what is wrong
//! with it. Of its items as many are kept as show that it is.

use bincode::{Decode, de::Decoder, error::DecodeError, impl_borrow_decode};

use super::{DialRequest, MAX_CANDIDATES, MAX_CLAIMS, Registration};

/// Decodes a list, and keeps one item more than `most` of one that is longer.
///
/// Each item has a byte at least, so the frame's end bounds the work.
fn list<T: Decode<D::Context>, D: Decoder>(
    decoder: &mut D,
    most: usize,
) -> Result<Vec<T>, DecodeError> {
    let length = u64::decode(decoder)?;
    let mut kept = Vec::new();
    for _ in 0..length {
        let item = T::decode(decoder)?;
        if kept.len() <= most {
            kept.push(item);
        }
    }
    Ok(kept)
}

impl<Context> Decode<Context> for Registration {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            candidates: list(decoder, MAX_CANDIDATES)?,
            nat: Decode::decode(decoder)?,
            policy: Decode::decode(decoder)?,
            serial: Decode::decode(decoder)?,
        })
    }
}
impl_borrow_decode!(Registration);

impl<Context> Decode<Context> for DialRequest {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            callee: Decode::decode(decoder)?,
            candidates: list(decoder, MAX_CANDIDATES)?,
            nat: Decode::decode(decoder)?,
            claims: list(decoder, MAX_CLAIMS)?,
            handshake: Decode::decode(decoder)?,
        })
    }
}
impl_borrow_decode!(DialRequest);
