use std::{
    fs::OpenOptions,
    io,
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::io::AsyncWrite;

/// The stream's way out. Shutting it down lets whoever reads it see the end, though this process
/// goes on.
#[derive(Debug)]
pub(crate) struct Stdout(tokio::io::Stdout);

impl Stdout {
    pub(crate) fn new() -> Self {
        Self(tokio::io::stdout())
    }
}

impl AsyncWrite for Stdout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_flush(cx))?;
        Poll::Ready(end())
    }
}

/// Ends stdout for its reader.
fn end() -> io::Result<()> {
    // A socket may be stdin too, and then closing one of the two ends nothing.
    if let Err(error) = SockRef::from(&io::stdout()).shutdown(Shutdown::Write) {
        tracing::trace!(%error, "stdout is no socket");
    }
    // The number stays taken, lest the next file that is opened gets it.
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(())
}
