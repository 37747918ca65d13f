//! The two directions of a stream.

use std::sync::Arc;

use super::shared::Handle;
use crate::end::StreamError;

/// What is taken from a stream at once, at most.
const PIECE: usize = 4 * 1024;

/// The direction in which this side sends. Dropping it ends the direction.
#[derive(Debug)]
pub struct SendStream {
    handle: Arc<Handle>,
    id: u32,
}

impl SendStream {
    pub(super) const fn new(handle: Arc<Handle>, id: u32) -> Self {
        Self { handle, id }
    }

    /// Waits for room, and sends all of the bytes, or none if this is dropped before.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let id = self.id;
        self.handle
            .wait(|state| {
                let is_time = state.mux.has_room() || state.mux.end().is_some();
                is_time.then(|| state.mux.write(id, bytes))
            })
            .await
    }

    pub(crate) fn finish(&mut self) -> Result<(), StreamError> {
        self.handle.change(|state| state.mux.finish(self.id))
    }

    pub(crate) fn reset(&mut self) {
        self.handle.change(|state| state.mux.reset(self.id));
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.handle.change(|state| state.mux.drop_sender(self.id));
    }
}

/// The direction in which this side receives. Dropping it gives the direction up.
#[derive(Debug)]
pub struct RecvStream {
    handle: Arc<Handle>,
    id: u32,
    /// Whether this side sends nothing on the stream, so that dropping this ends it both ways.
    is_alone: bool,
}

impl RecvStream {
    pub(super) const fn new(handle: Arc<Handle>, id: u32) -> Self {
        Self {
            handle,
            id,
            is_alone: false,
        }
    }

    /// Returns the direction of a stream on which this side sends nothing.
    pub(super) const fn alone(handle: Arc<Handle>, id: u32) -> Self {
        Self {
            handle,
            id,
            is_alone: true,
        }
    }

    /// Waits for some bytes, and returns how many there are; none at the end. Cancel safe.
    pub(crate) async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, StreamError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let id = self.id;
        self.handle.wait(|state| state.mux.read(id, bytes)).await
    }

    /// Appends what has come, `limit` bytes at most, and returns how much that is. Cancel safe.
    pub(crate) async fn read_more(
        &mut self,
        bytes: &mut Vec<u8>,
        limit: usize,
    ) -> Result<usize, StreamError> {
        let mut piece = [0; PIECE];
        let count = self.read(&mut piece[..limit.min(PIECE)]).await?;
        bytes.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    pub(crate) fn stop(&mut self) {
        self.handle.change(|state| state.mux.discard(self.id));
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.handle.change(|state| {
            state.mux.drop_receiver(self.id);
            if self.is_alone {
                state.mux.drop_sender(self.id);
            }
        });
    }
}
