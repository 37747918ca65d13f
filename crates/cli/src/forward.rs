//! Carries a peer's stream to a TCP service.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::anyhow;
use p2pconnect::Connection;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
};

use crate::{
    by_name,
    pump::{Transferred, pump_until},
};

/// How long a connection to a service may be idle before TCP asks whether the service is still there, and
/// how long it waits for an answer. A service that has closed a connection wholly answers with RST, at the
/// latest when its system has forgotten the connection, which takes Linux a minute.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Connects to `target` and carries the stream there, or tells the peer why not.
///
/// # Errors
///
/// Why the service cannot be connected to, or what broke the stream.
pub(crate) async fn forward(connection: Connection, target: &str) -> anyhow::Result<Transferred> {
    let stream = match connect(target).await {
        Ok(stream) => stream,
        Err(error) => {
            let reason = format!(
                "the listener could not reach {target}: {}",
                in_words(&error)
            );
            if let Err(error) = connection.refuse(&reason).await {
                tracing::debug!(%error, "the peer does not hear of a refusal");
            }
            return Err(anyhow!(
                "{target}, where streams are forwarded to, cannot be connected to: {}",
                in_words(&error)
            ));
        }
    };
    let (input, output) = stream.into_split();
    let (ended, at_its_end) = oneshot::channel::<OwnedReadHalf>();
    let gone = async {
        // Until then, reading finds out.
        let Ok(input) = at_its_end.await else {
            return std::future::pending().await;
        };
        // What it returns says no more.
        drop(input.ready(Interest::ERROR).await);
        anyhow!("the service has closed the connection wholly, and takes nothing more")
    };
    let mut output = Output {
        half: Some(output),
        is_whole: false,
    };
    let input = Input(Some((input, ended)));
    let pumped = pump_until(gone, connection, input, &mut output).await;
    output.is_whole = pumped.is_ok();
    pumped
}

async fn connect(target: &str) -> io::Result<TcpStream> {
    let stream = by_name::connect(target).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// Says what went wrong without the system's number of it, which says nothing on another machine.
fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => text.replace(&format!(" (os error {number})"), ""),
        None => text,
    }
}

/// What a service sends. At the end, gives the reading half to whoever watches over the rest.
struct Input(Option<(OwnedReadHalf, oneshot::Sender<OwnedReadHalf>)>);

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some((half, _)) = &mut self.0 else {
            return Poll::Ready(Ok(()));
        };
        let before = buf.filled().len();
        ready!(Pin::new(half).poll_read(cx, buf))?;
        if buf.filled().len() == before
            && let Some((half, ended)) = self.0.take()
        {
            // Nobody watches where the stream ends as well.
            drop(ended.send(half));
        }
        Poll::Ready(Ok(()))
    }
}

/// What goes to a service. Unless it is whole, the service sees that the stream has broken, and does not take
/// what it has for all there is.
struct Output {
    half: Option<OwnedWriteHalf>,
    is_whole: bool,
}

impl Output {
    fn half(&mut self) -> io::Result<Pin<&mut OwnedWriteHalf>> {
        let half = self.half.as_mut();
        half.map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.half()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half()?.poll_shutdown(cx)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let Some(half) = self.half.take().filter(|_| !self.is_whole) else {
            return;
        };
        if let Err(error) = SockRef::from(half.as_ref()).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "the service sees an end that is none");
        }
        // Dropping it would send FIN first.
        half.forget();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A service that has closed wholly, without a word after its end, answers such a question with RST.
    #[tokio::test]
    async fn a_service_is_asked_now_and_then_whether_it_is_there() {
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = service.local_addr().unwrap().to_string();
        let stream = connect(&target).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
    }
}
