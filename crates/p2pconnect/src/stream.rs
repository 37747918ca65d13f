//! The encrypted stream to a peer, which is begun anew while the peer cannot have got any of it.

pub(crate) mod answer;
pub(crate) mod connection;
pub(crate) mod coordinated_handshake;
pub(crate) mod ending;
pub(crate) mod handshake_pipe;
pub(crate) mod hearing;
pub(crate) mod liveness;
pub(crate) mod opened_path;
pub(crate) mod pair_rotation;
pub(crate) mod parties;
pub(crate) mod path_ledger;
pub(crate) mod preamble;
pub(crate) mod punched;
pub(crate) mod transport;

use std::{
    any::Any,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake as _, Waker, ready},
    time::{Duration, Instant},
};

use p2pconnect_host::TcpStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, watch},
};
use tokio_rustls::TlsStream;

use crate::{
    DialError,
    machine::{
        task::AbortOnDrop,
        wakers::{Direction, Wakers},
    },
    stream::{
        answer::AnswerState, opened_path::UsablePath, path_ledger::StreamPath, punched::Punched,
        transport::Transport,
    },
};

/// When the steps to a connection were taken, for whoever began to wait for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) began: Instant,
    /// How much later the introduction came.
    pub(crate) introduced: Duration,
    /// When it was there to be used.
    pub(crate) usable: Instant,
    /// How many introductions it took.
    pub(crate) rounds: u32,
}

/// What is free again when the last clone is dropped.
pub(crate) type AnyLease = Arc<dyn Any + Send + Sync>;

/// A connection to the peer, and what it took.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) punched: Punched,
    pub(crate) steps: Steps,
    pub(crate) lease: AnyLease,
}

/// The stream of a connection.
///
/// The dialler may write before the peer has answered on the TCP connection. Should that prove to
/// be another one, the dial goes on, and what was written is written again on what comes of it.
#[derive(Debug)]
pub(crate) struct Stream {
    current: Current,
    /// Until the peer has answered, and has what was written.
    replay: Option<Box<Replay>>,
    /// Whether the peer has answered.
    confirmed: watch::Sender<bool>,
}

/// The TLS connection that a stream runs over now.
#[derive(Debug)]
struct Current {
    tls: TlsStream<Transport>,
    answer: AnswerState,
    stream_path: Arc<StreamPath>,
    steps: Steps,
    /// What is free again when the connection ends.
    _lease: AnyLease,
}

impl From<Established> for Current {
    fn from(established: Established) -> Self {
        let Established {
            punched,
            steps,
            lease,
        } = established;
        Self {
            tls: punched.stream,
            answer: AnswerState::of(punched.role),
            stream_path: punched.stream_path,
            steps,
            _lease: lease,
        }
    }
}

/// What it takes to begin anew.
#[derive(Debug)]
struct Replay {
    /// All that was written. [`Transport`] takes so much until the peer has answered, and TLS as
    /// much.
    written: Vec<u8>,
    /// How much of that the present TLS connection has.
    replayed: usize,
    is_flushed: bool,
    /// Why the present TLS connection is of no use any more.
    broken: Option<io::Error>,
    successor: Successor,
    /// Whoever waits for it.
    wakers: Arc<Wakers>,
}

/// What the dial comes to when it has to go on.
#[derive(Debug)]
pub(crate) struct Successor {
    next: mpsc::Receiver<Result<Established, DialError>>,
    /// The dial, which goes on as long as this exists.
    _dial: AbortOnDrop,
}

impl Successor {
    pub(crate) const fn new(
        next: mpsc::Receiver<Result<Established, DialError>>,
        dial: AbortOnDrop,
    ) -> Self {
        Self { next, _dial: dial }
    }
}

impl Stream {
    pub(crate) fn new(established: Established) -> Self {
        let current = Current::from(established);
        let confirmed = *current.stream_path.confirmation().borrow();
        Self {
            current,
            replay: None,
            confirmed: watch::Sender::new(confirmed),
        }
    }

    /// Begins anew with what the dial comes to, if it has to go on.
    pub(crate) fn expect(&mut self, successor: Successor) {
        self.replay = Some(Box::new(Replay {
            written: Vec::new(),
            replayed: 0,
            is_flushed: true,
            broken: None,
            successor,
            wakers: Arc::default(),
        }));
    }

    /// Returns where it is noted whether the peer has answered.
    pub(crate) fn confirmation(&self) -> watch::Sender<bool> {
        self.confirmed.clone()
    }

    /// Returns the TCP connection, once it is certain which.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        self.current.tls.get_ref().0.tcp()
    }

    /// Returns what it runs over now, and what that took.
    pub(crate) fn path(&self) -> (UsablePath, Steps) {
        (self.current.stream_path.now(), self.current.steps)
    }

    /// Returns what TLS has received; nothing if it is broken.
    pub(crate) fn received(&mut self) -> Option<rustls::IoState> {
        let state = match &mut self.current.tls {
            TlsStream::Client(stream) => stream.get_mut().1.process_new_packets(),
            TlsStream::Server(stream) => stream.get_mut().1.process_new_packets(),
        };
        state.ok()
    }

    /// Leaves it to the caller to answer the nomination, if this side has to and has not.
    pub(crate) fn take_answer(&mut self) -> bool {
        let is_owed = matches!(self.current.answer, AnswerState::Owed);
        if is_owed {
            self.current.answer = AnswerState::Given;
        }
        is_owed
    }

    /// Does something with the stream, and once more on another TCP connection where the present
    /// one proves to be of no use.
    fn poll_on<T>(
        &mut self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.poll_usable(direction, cx))?;
            let polled = match self.poll_replayed(direction, cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                // What is read does not wait for what is written.
                Poll::Pending if matches!(direction, Direction::Writing) => Poll::Pending,
                Poll::Pending | Poll::Ready(Ok(())) => poll(self, cx),
            };
            let is_certain = self.tcp().is_some();
            match (polled, &mut self.replay) {
                (Poll::Ready(Err(error)), Some(replay)) if !is_certain => {
                    replay.broken = Some(error);
                }
                (polled, _) => return polled,
            }
        }
    }

    /// Waits until the stream is begun anew, if it has to be.
    fn poll_usable(&mut self, direction: Direction, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let Some(replay) = &mut self.replay else {
            return Poll::Ready(Ok(()));
        };
        if replay.broken.is_none() {
            return Poll::Ready(Ok(()));
        }
        let waker = replay.waker(direction, cx);
        let next = &mut replay.successor.next;
        let next = ready!(next.poll_recv(&mut Context::from_waker(&waker)));
        // The other direction waits for the same.
        replay.wakers.wake_by_ref();
        match (next, replay.broken.take()) {
            (Some(Ok(established)), _) => {
                replay.replayed = 0;
                replay.is_flushed = false;
                self.current = established.into();
                Poll::Ready(Ok(()))
            }
            (Some(Err(error)), _) => {
                self.replay = None;
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error)))
            }
            (None, broken) => {
                self.replay = None;
                let broken = broken.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
                Poll::Ready(Err(broken))
            }
        }
    }

    /// Writes again what another TCP connection has had before, and forgets it as soon as the peer
    /// has answered.
    fn poll_replayed(&mut self, direction: Direction, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let Some(replay) = &mut self.replay else {
            return Poll::Ready(Ok(()));
        };
        if !replay.is_flushed {
            let waker = replay.waker(direction, cx);
            let cx = &mut Context::from_waker(&waker);
            while let Some(rest) = replay.rest() {
                replay.replayed += ready!(Pin::new(&mut self.current.tls).poll_write(cx, rest))?;
            }
            ready!(Pin::new(&mut self.current.tls).poll_flush(cx))?;
            replay.is_flushed = true;
            replay.wakers.wake_by_ref();
        }
        if self.tcp().is_some() {
            self.replay = None;
            self.confirmed.send_replace(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl Replay {
    /// Returns what wakes both directions, of which `cx` polls one.
    fn waker(&self, direction: Direction, cx: &Context<'_>) -> Waker {
        self.wakers.join(direction, cx.waker())
    }

    /// Returns what the present TLS connection lacks, if it lacks anything.
    fn rest(&self) -> Option<&[u8]> {
        let rest = self.written.get(self.replayed..)?;
        (!rest.is_empty()).then_some(rest)
    }

    /// Notes that so much of these has been written.
    fn note(&mut self, bufs: &[IoSlice<'_>], mut count: usize) {
        self.replayed += count;
        for buf in bufs {
            let taken = count.min(buf.len());
            self.written.extend_from_slice(&buf[..taken]);
            count -= taken;
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_on(Direction::Reading, cx, |this, cx| {
            ready!(this.current.answer.poll_heard(&mut this.current.tls, cx))?;
            Pin::new(&mut this.current.tls).poll_read(cx, buf)
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_on(Direction::Writing, cx, |this, cx| {
            ready!(this.current.answer.poll_given(&mut this.current.tls, cx))?;
            Pin::new(&mut this.current.tls).poll_flush(cx)
        })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_on(Direction::Writing, cx, |this, cx| {
            ready!(this.current.answer.poll_given(&mut this.current.tls, cx))?;
            Pin::new(&mut this.current.tls).poll_shutdown(cx)
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_on(Direction::Writing, cx, |this, cx| {
            let taken = ready!(
                this.current
                    .answer
                    .poll_write(&mut this.current.tls, cx, bufs)
            )?;
            if let Some(replay) = &mut this.replay {
                replay.note(bufs, taken);
            }
            Poll::Ready(Ok(taken))
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.current.tls.is_write_vectored()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
