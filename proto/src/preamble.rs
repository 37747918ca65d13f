//! What a side reads on a connection before the stream: the other side's opening and probe
//! (PROTOCOL.md section 9).

use thiserror::Error;

use crate::Opening;

/// The most bytes of a probe behind its length. Segments are longer on no link but the loopback.
pub const MAX_PROBE: usize = 16 * 1024;

/// The length of the opening, and of the probe's length.
const HEAD: usize = Opening::LEN + size_of::<u16>();

/// Takes a preamble as it comes, and no byte of what follows.
#[derive(Debug, Clone)]
pub struct PreambleReader {
    theirs: Opening,
    head: [u8; HEAD],
    /// How many bytes have come.
    len: usize,
}

/// What has come is no preamble of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidPreamble {
    /// The opening is another one.
    #[error("the connection does not open as those of the session")]
    Opening,
    /// The probe is longer than [`MAX_PROBE`].
    #[error("the probe has {0} bytes, more than the {MAX_PROBE} allowed")]
    TooLong(usize),
}

impl PreambleReader {
    /// Expects a preamble that begins with this opening.
    #[must_use]
    pub const fn new(theirs: Opening) -> Self {
        Self {
            theirs,
            head: [0; HEAD],
            len: 0,
        }
    }

    /// Expects a probe, behind an opening that has been read already.
    #[must_use]
    pub fn behind(opening: Opening) -> Self {
        let mut reader = Self::new(opening);
        reader.head[..Opening::LEN].copy_from_slice(opening.as_bytes());
        reader.len = Opening::LEN;
        reader
    }

    /// Tells whether the opening has come.
    #[must_use]
    pub const fn is_opened(&self) -> bool {
        self.len >= Opening::LEN
    }

    /// Returns how many bytes are still to come, at least; none once the preamble is whole.
    #[must_use]
    pub const fn lacks(&self) -> usize {
        let known = match self.len {
            ..Opening::LEN => Opening::LEN,
            Opening::LEN..HEAD => HEAD,
            HEAD.. => HEAD + self.probe_len(),
        };
        known - self.len
    }

    /// Takes bytes that have come, no more than it [lacks](Self::lacks).
    ///
    /// # Errors
    ///
    /// [`InvalidPreamble`], with which the connection should be closed.
    ///
    /// # Panics
    ///
    /// If there are more.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), InvalidPreamble> {
        assert!(bytes.len() <= self.lacks(), "bytes of the stream");
        let end = self.len + bytes.len();
        if end <= HEAD {
            self.head[self.len..end].copy_from_slice(bytes);
        }
        self.len = end;
        let opening = self.head.first_chunk().copied().map(Opening::from_bytes);
        match end {
            Opening::LEN if opening != Some(self.theirs) => Err(InvalidPreamble::Opening),
            HEAD if self.probe_len() > MAX_PROBE => Err(InvalidPreamble::TooLong(self.probe_len())),
            _ => Ok(()),
        }
    }

    /// Returns the length of the probe, once that has come.
    const fn probe_len(&self) -> usize {
        let [.., high, low] = self.head;
        u16::from_be_bytes([high, low]) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: Opening = Opening::from_bytes([7; Opening::LEN]);

    #[test]
    fn a_preamble_is_taken_to_its_end_and_no_further() {
        let mut reader = PreambleReader::new(THEIRS);
        assert_eq!((reader.lacks(), reader.is_opened()), (Opening::LEN, false));
        assert_eq!(reader.take(&[7; 15]), Ok(()));
        assert_eq!((reader.lacks(), reader.is_opened()), (1, false));
        assert_eq!(reader.take(&[7]), Ok(()));
        assert_eq!((reader.lacks(), reader.is_opened()), (2, true));
        assert_eq!(reader.take(&[0x40]), Ok(()));
        assert_eq!(reader.take(&[0]), Ok(()));
        assert_eq!(reader.lacks(), MAX_PROBE);
        assert_eq!(reader.take(&[1; MAX_PROBE]), Ok(()));
        assert_eq!(reader.lacks(), 0);
    }

    #[test]
    fn another_opening_and_a_probe_beyond_the_limit_are_refused() {
        let mut reader = PreambleReader::new(THEIRS);
        assert_eq!(reader.take(&[8; 16]), Err(InvalidPreamble::Opening));
        let mut reader = PreambleReader::behind(THEIRS);
        let beyond = InvalidPreamble::TooLong(MAX_PROBE + 1);
        assert_eq!(reader.take(&[0x40, 1]), Err(beyond));
    }
}
