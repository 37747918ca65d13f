//! What the callee says on a connection that the dialler uses already.

use std::io;

use p2pconnect_host::ReadHalf;
use p2pconnect_proto::Opening;
use tokio::io::AsyncReadExt as _;

use crate::stream::{
    coordinated_handshake::{TAG_LEN, Tags},
    preamble::{MAX_PROBE, stranger},
};

/// The opening, the probe and the tag, as far as they have come.
///
/// Reading can be interrupted at any time and go on: what has come is kept.
#[derive(Debug, Default)]
pub(super) struct CalleesAnswer {
    opening: Vec<u8>,
    /// The probe with its length, and the tag.
    rest: Vec<u8>,
}

impl CalleesAnswer {
    /// Reads the opening.
    ///
    /// Cancel safe.
    pub(super) async fn expect_opening(
        &mut self,
        stream: &mut ReadHalf,
        theirs: Opening,
    ) -> io::Result<()> {
        fill(stream, &mut self.opening, Opening::LEN).await?;
        is_right(self.opening == theirs.as_bytes())
    }

    /// Reads what follows: the callee uses this connection and no other.
    ///
    /// Cancel safe.
    pub(super) async fn expect_tag(
        &mut self,
        stream: &mut ReadHalf,
        tags: &Tags,
    ) -> io::Result<()> {
        const HEAD: usize = size_of::<u16>();
        fill(stream, &mut self.rest, HEAD).await?;
        let probe_len = usize::from(u16::from_be_bytes([self.rest[0], self.rest[1]]));
        is_right(probe_len <= MAX_PROBE)?;
        let probe_end = HEAD + probe_len;
        fill(stream, &mut self.rest, probe_end + TAG_LEN).await?;
        let tag = self.rest[probe_end..].try_into().map_err(|_| stranger())?;
        is_right(tags.is_theirs(&tag))
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

fn is_right(it_is: bool) -> io::Result<()> {
    it_is.then_some(()).ok_or_else(stranger)
}
