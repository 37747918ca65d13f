//! The last words on a connection: a stream that begins with what no message begins with. Pure.

use p2pconnect_proto::close;

use crate::end::{CloseCode, End};

/// What a stream of last words begins with: as the length of a message, it is too long.
const MARK: [u8; 4] = [0xFF; 4];

/// The mark and the code.
const HEAD: usize = MARK.len() + 8;

/// The most bytes of words. More are cut off.
const MAX_WORDS: usize = 512;

/// The code of yamux for an end without a fault.
pub(super) const NORMAL: u32 = 0;

/// What a stream of the other side is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// That cannot be told yet.
    Nothing,
    /// A request or a notice.
    Stream,
    /// The last words.
    Closing(End),
}

/// Finds out what a stream is that these bytes have come on, and perhaps its end.
pub(super) fn read(bytes: &[u8], is_finished: bool) -> Found {
    if !bytes.starts_with(&MARK) {
        return match is_finished || bytes.len() >= MARK.len() {
            true => Found::Stream,
            false => Found::Nothing,
        };
    }
    if !is_finished && bytes.len() < HEAD + MAX_WORDS {
        return Found::Nothing;
    }
    let (code, words) = match bytes[MARK.len()..].split_first_chunk() {
        Some((code, words)) => (u64::from_be_bytes(*code), words),
        None => (close::DONE.into(), &[][..]),
    };
    let words = &words[..words.len().min(MAX_WORDS)];
    Found::Closing(End::Closed {
        code: CloseCode(code),
        words: String::from_utf8_lossy(words).into_owned(),
    })
}

/// Returns what to write on the stream.
pub(super) fn write(code: CloseCode, words: &str) -> Vec<u8> {
    let words = &words[..words.floor_char_boundary(MAX_WORDS)];
    [&MARK[..], &code.0.to_be_bytes(), words.as_bytes()].concat()
}

/// Returns what a session's end by yamux alone means: 1 is a breach of its rules, 2 a failure.
pub(super) fn went_away(code: u32) -> End {
    let code = match code {
        NORMAL => close::DONE,
        1 => close::PROTOCOL_VIOLATION,
        _ => close::INTERNAL,
    };
    End::Closed {
        code: code.into(),
        words: String::new(),
    }
}
