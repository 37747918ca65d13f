//! One connection for both directions, and for whoever looks whether the peer is still there.

use std::{
    io,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that is borrowed for each call alone. Tokio's halves let nobody ask the whole one.
///
/// All that borrow it are polled by one task, so that nobody ever waits for the lock.
#[derive(Debug)]
pub(crate) struct Half<'a, C>(&'a Mutex<C>);

impl<'a, C> Half<'a, C> {
    pub(crate) const fn of(connection: &'a Mutex<C>) -> Self {
        Self(connection)
    }

    pub(crate) fn whole(&self) -> MutexGuard<'a, C> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Half<'_, C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.whole()).poll_read(cx, buf)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Half<'_, C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.whole()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.whole()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.whole()).poll_shutdown(cx)
    }
}
