//! What the callee says on a connection that the dialler uses already.

use std::io;

use p2pconnect_host::ReadHalf;
use p2pconnect_proto::preamble::PreambleReader;
use tokio::io::AsyncReadExt as _;

use crate::stream::{
    coordinated_handshake::{TAG_LEN, Tags},
    preamble::{read_to_end, read_to_opening, stranger},
};

/// The opening, the probe and the tag, as far as they have come.
///
/// Reading can be interrupted at any time and go on: what has come is kept.
#[derive(Debug)]
pub(super) struct CalleesAnswer {
    preamble: PreambleReader,
    tag: Vec<u8>,
}

impl CalleesAnswer {
    /// Expects what the preamble lacks, and the tag.
    pub(super) const fn new(preamble: PreambleReader) -> Self {
        Self {
            preamble,
            tag: Vec::new(),
        }
    }

    /// Reads the opening.
    ///
    /// Cancel safe.
    pub(super) async fn expect_opening(&mut self, stream: &mut ReadHalf) -> io::Result<()> {
        read_to_opening(stream, &mut self.preamble).await
    }

    /// Reads what follows: the callee uses this connection and no other.
    ///
    /// Cancel safe.
    pub(super) async fn expect_tag(
        &mut self,
        stream: &mut ReadHalf,
        tags: &Tags,
    ) -> io::Result<()> {
        read_to_end(stream, &mut self.preamble).await?;
        fill(stream, &mut self.tag, TAG_LEN).await?;
        let tag = self.tag.as_slice().try_into().map_err(|_| stranger())?;
        tags.is_theirs(&tag).then_some(()).ok_or_else(stranger)
    }
}

/// Reads until there are so many bytes, and not one more.
async fn fill(stream: &mut ReadHalf, bytes: &mut Vec<u8>, len: usize) -> io::Result<()> {
    while bytes.len() < len {
        let missing = (len - bytes.len()) as u64;
        if (&mut *stream).take(missing).read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
