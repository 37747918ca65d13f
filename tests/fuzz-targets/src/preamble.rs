//! What comes first on a connection between peers.

use p2pconnect_proto::{
    Opening, Role, SessionToken,
    preamble::{InvalidPreamble, MAX_PROBE, PreambleReader},
};

use crate::{input::Input, says_why};

/// The opening, and the length of the probe.
const HEAD: usize = Opening::LEN + 2;

/// Takes an input for what comes first on a connection, in pieces of some size, with the right
/// opening before it or without.
///
/// It is taken to the end of the probe and no further, whatever the pieces are. Nothing else than
/// the session's opening passes, nor a probe that is too long.
pub fn preamble(input: &[u8]) {
    let mut input = Input::new(input);
    let (flags, piece) = (input.u8(), usize::from(input.u8()).max(1));
    let theirs = SessionToken::from_bytes([input.u8(); 16]).opening(Role::Controlled);
    let mut bytes = Vec::new();
    if flags & 1 == 1 {
        bytes.extend_from_slice(theirs.as_bytes());
    }
    bytes.extend_from_slice(input.rest());
    let end = expected(&bytes, theirs);
    assert_eq!(read(PreambleReader::new(theirs), &bytes, piece), end);
    if let Some(rest) = bytes.strip_prefix(theirs.as_bytes()) {
        let behind = read(PreambleReader::behind(theirs), rest, piece);
        assert_eq!(behind, end.map(|end| end - Opening::LEN));
    }
    if let Err(why) = end {
        says_why(&why, &[]);
    }
}

/// Returns how many bytes belong to a preamble, or those that there are if it is cut.
fn expected(bytes: &[u8], theirs: Opening) -> Result<usize, InvalidPreamble> {
    let Some((opening, rest)) = bytes.split_at_checked(Opening::LEN) else {
        return Ok(bytes.len());
    };
    if opening != theirs.as_bytes() {
        return Err(InvalidPreamble::Opening);
    }
    let &[high, low, ..] = rest else {
        return Ok(bytes.len());
    };
    let probe = usize::from(u16::from_be_bytes([high, low]));
    if probe > MAX_PROBE {
        return Err(InvalidPreamble::TooLong(probe));
    }
    Ok(bytes.len().min(HEAD + probe))
}

fn read(mut reader: PreambleReader, bytes: &[u8], piece: usize) -> Result<usize, InvalidPreamble> {
    let mut rest = bytes;
    while reader.lacks() > 0 && !rest.is_empty() {
        assert!(reader.lacks() <= MAX_PROBE);
        let (now, later) = rest.split_at(reader.lacks().min(piece).min(rest.len()));
        let was_opened = reader.is_opened();
        reader.take(now)?;
        assert!(was_opened <= reader.is_opened());
        rest = later;
    }
    Ok(bytes.len() - rest.len())
}
