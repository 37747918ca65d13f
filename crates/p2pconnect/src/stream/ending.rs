//! The end of a stream: FIN says that this side has handed over all that the peer sent.
//!
//! TLS's `close_notify` ends one direction. It says nothing of the other one's bytes, which the
//! peer's kernel acknowledges before any application has them. So each side holds its FIN back
//! until it has read the peer's `close_notify` and the application has handed over what came
//! before.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use p2pconnect_host::TcpStream;
use tokio::{
    io::ReadBuf,
    time::{Instant, sleep},
};

use crate::stream::liveness::Liveness;

/// How often it is checked within the silence that is allowed whether the peer still takes bytes.
/// The silence may be found that much later.
const CHECKS: u32 = 20;

/// What may be unacknowledged when the peer has everything: this side's FIN, which counts as one
/// byte.
const FIN: u32 = 1;

/// Sends FIN, and waits for the peer's.
pub(crate) async fn hand_over(
    stream: &TcpStream,
    liveness: &mut Liveness,
    silence: Duration,
) -> io::Result<()> {
    stream.deliver_on_close()?;
    let sent = stream.shutdown_now();
    sent.map_err(|error| match error.kind() {
        // RST has come in the place of FIN, and the system has forgotten the connection.
        io::ErrorKind::NotConnected => io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the peer has broken the connection off before it had everything",
        ),
        _ => error,
    })?;
    tokio::select! {
        ended = poll_fn(|cx| poll_end(stream, cx)) => ended?,
        error = poll_fn(|cx| liveness.poll_dead_peer(stream, cx)) => return Err(error),
        () = idle_for(stream, silence) => return Err(unconfirmed(silence)),
    }
    // A peer that has gone before these bytes came has sent FIN as well.
    if stream.info().outstanding.is_some_and(|bytes| bytes > FIN) {
        return Err(closed_early());
    }
    Ok(())
}

/// Is ready with an error once a peer that has ended its bytes is gone: it has sent FIN before this
/// side's end, or the connection is broken.
pub(crate) fn poll_gone(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Error> {
    poll_end(stream, cx).map(|ended| ended.err().unwrap_or_else(closed_early))
}

fn closed_early() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the peer has closed the connection before it had everything",
    )
}

/// Tells whether the peer has not acknowledged everything, and still may.
pub(crate) fn is_under_way(stream: &TcpStream) -> bool {
    let info = stream.info();
    !info.is_closed && info.outstanding.is_some_and(|bytes| bytes > 0)
}

/// Reads to FIN. What comes behind `close_notify` does not count (RFC 8446 section 6.1).
fn poll_end(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut bytes = [0; 512];
    loop {
        let mut buf = ReadBuf::new(&mut bytes);
        ready!(stream.poll_read_shared(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}

/// Waits until the peer's system has had everything for as long as `silence`.
async fn idle_for(stream: &TcpStream, silence: Duration) {
    idle_by(
        || stream.info().outstanding.is_none_or(|bytes| bytes <= FIN),
        silence,
    )
    .await;
}

async fn idle_by(mut has_everything: impl FnMut() -> bool, silence: Duration) {
    let mut since = Instant::now();
    loop {
        let left = silence.saturating_sub(since.elapsed());
        if left.is_zero() {
            return;
        }
        sleep(left.min(silence / CHECKS)).await;
        if !has_everything() {
            since = Instant::now();
        }
    }
}

fn unconfirmed(silence: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "the peer has received everything, but has not said within {} s that it has handed it over",
            silence.as_secs()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_at_the_end_is_waited_for_as_long_as_told() {
        const SILENCE: Duration = Duration::from_secs(60);

        for tenths in 0..300 {
            let began = Instant::now();
            let had_everything = began + Duration::from_millis(100) * tenths;
            idle_by(|| Instant::now() >= had_everything, SILENCE).await;
            let waited = had_everything.elapsed();
            let wanted = SILENCE * 94 / 100..=SILENCE * 106 / 100;
            assert!(wanted.contains(&waited), "{tenths}: {waited:?}");
        }
    }
}
