//! Carries a peer's stream to a TCP service.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::anyhow;
use p2pconnect::{Connection, Liveness, Shortage};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
};

use crate::{
    args::Target,
    by_name,
    pump::{Transferred, pump_until},
    words::in_words,
};

/// Connects to `target` and carries the stream there, or tells the peer why not.
///
/// A service that answers nothing for as long as `silence`, though it should, ends the stream, so
/// that its place is free: one that has vanished, and one that has closed the connection wholly,
/// whose system says so, at the latest when it has forgotten the connection.
///
/// # Errors
///
/// Why the service cannot be connected to, or what broke the stream.
pub(crate) async fn forward(
    connection: Connection,
    target: &Target,
    silence: Duration,
) -> anyhow::Result<Transferred> {
    let (stream, liveness) = match connect(target, silence).await {
        Ok(connected) => connected,
        Err(error) => {
            let reason = format!(
                "the listener could not reach {target}: {}",
                in_words(&error.to_string())
            );
            if let Err(error) = connection.refuse(&reason).await {
                tracing::debug!(%error, "the peer does not hear of a refusal");
            }
            let blamed = anyhow!(
                "{target}, where streams are forwarded to, cannot be connected to: {error}"
            );
            return Err(match Shortage::of(&error) {
                Some(shortage) => blamed.context(shortage),
                None => blamed,
            });
        }
    };
    let service = Service { target, silence };
    let (input, output) = stream.into_split();
    let (ended, at_its_end) = oneshot::channel::<Source>();
    let gone = async {
        // Until then, reading finds out.
        let Ok(Source { half, mut liveness }) = at_its_end.await else {
            return std::future::pending().await;
        };
        tokio::select! {
            // What it returns says no more.
            _ = half.ready(Interest::ERROR) => {}
            error = poll_fn(|cx| liveness.poll_dead(half.as_ref(), &service, cx)) => return error.into(),
        }
        anyhow!("{service} has closed the connection wholly, and takes nothing more")
    };
    let mut output = Output {
        service,
        half: Some(output),
        is_whole: false,
    };
    let source = Source {
        half: input,
        liveness,
    };
    let input = Input {
        service,
        source: Some((source, ended)),
    };
    let pumped = pump_until(gone, connection, input, &mut output, || {}).await;
    output.is_whole = pumped.is_ok();
    pumped
}

async fn connect(target: &Target, silence: Duration) -> io::Result<(TcpStream, Liveness)> {
    let stream = by_name::connect(target).await?;
    stream.set_nodelay(true)?;
    let liveness = Liveness::watch(&stream, silence)?;
    Ok((stream, liveness))
}

/// The half of a connection that a service sends on, and whoever looks whether the service is still
/// there.
struct Source {
    half: OwnedReadHalf,
    liveness: Liveness,
}

/// A service, and for how long nothing may come from it.
#[derive(Debug, Clone, Copy)]
struct Service<'a> {
    target: &'a Target,
    silence: Duration,
}

impl fmt::Display for Service<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service at {}", self.target)
    }
}

impl Service<'_> {
    /// Says what has become of the connection to it.
    fn broken(self, error: io::Error) -> io::Error {
        if Shortage::of(&error).is_some() {
            return error;
        }
        let kind = error.kind();
        let text = match kind {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                format!("{self} has broken its connection off")
            }
            _ => match Liveness::explained(error, &self, self.silence) {
                error if error.raw_os_error().is_none() => return error,
                error => format!("the connection to {self} broke: {error}"),
            },
        };
        io::Error::new(kind, text)
    }
}

/// What a service sends. At the end, gives the reading half to whoever watches over the rest.
struct Input<'a> {
    service: Service<'a>,
    source: Option<(Source, oneshot::Sender<Source>)>,
}

impl AsyncRead for Input<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let service = self.service;
        let Some((source, _)) = &mut self.source else {
            return Poll::Ready(Ok(()));
        };
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut source.half).poll_read(cx, buf) else {
            let Source { half, liveness } = source;
            return liveness.poll_dead(half.as_ref(), &service, cx).map(Err);
        };
        read.map_err(|error| service.broken(error))?;
        if buf.filled().len() == before
            && let Some((source, ended)) = self.source.take()
        {
            // Nobody watches where the stream ends as well.
            drop(ended.send(source));
        }
        Poll::Ready(Ok(()))
    }
}

/// What goes to a service. Unless it is whole, the service sees that the stream has broken, and
/// does not take what it has for all there is.
struct Output<'a> {
    service: Service<'a>,
    half: Option<OwnedWriteHalf>,
    is_whole: bool,
}

impl Output<'_> {
    fn half(&mut self) -> io::Result<Pin<&mut OwnedWriteHalf>> {
        let half = self.half.as_mut();
        half.map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncWrite for Output<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.half()?.poll_write(cx, buf);
        written.map_err(|error| self.service.broken(error))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.half()?.poll_flush(cx);
        flushed.map_err(|error| self.service.broken(error))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.half()?.poll_shutdown(cx);
        ended.map_err(|error| self.service.broken(error))
    }
}

impl Drop for Output<'_> {
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
