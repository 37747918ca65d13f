//! What TLS with the peer runs over: the coordinator at first, then TCP.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake as _, Waker, ready},
    time::Duration,
};

use p2pconnect_host::{ReadHalf, TcpStream, WriteHalf};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};

use crate::{
    DialError,
    machine::{
        task::AbortOnDrop,
        tcp,
        wakers::{Direction, Wakers},
    },
    stream::{handshake_pipe::HandshakePipe, preamble::Preamble},
    sync::lock,
};

/// The most that is sent on a connection before the peer has answered on it, which takes a round
/// trip. TCP itself sends some 15 KiB in its first one.
const MAX_UNCONFIRMED: usize = 64 * 1024;

/// The most of it that is sent on a connection that has not even brought the peer's opening: enough
/// for a request. A coordinator that lies names addresses where anybody may listen.
const MAX_UNHEARD: usize = 4 * 1024;

/// What TLS with the peer runs over.
#[derive(Debug)]
pub(crate) enum Transport {
    /// The coordinator passes the handshake on.
    Coordinated(HandshakePipe),
    /// A TCP connection that the peer has not answered on yet.
    Unconfirmed(Box<Unconfirmed>),
    /// A TCP connection.
    Direct(Preamble),
    /// Nothing any more: putting a connection together has failed.
    Gone,
}

/// What becomes of unconfirmed connections.
#[derive(Debug)]
pub(crate) enum Update {
    /// One does, and this is its other half.
    Confirmed(ReadHalf),
    /// They may still, and so may this one.
    Joined(Outgoing),
    /// The one between these addresses has brought the peer's opening.
    Heard {
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// The one between these addresses does not.
    Refuted {
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// None will: the coordinator has heard nothing of the peer for so long.
    PeerSilent(Duration),
}

/// Unconfirmed connections: TCP connections that are used before the peer has answered on one.
/// Everything that was written is kept, in case it has to be sent again on another one.
///
/// Nobody but the peer can read what is sent: the handshake is over, and the peer has proved who
/// it is in it. The peer takes one of them, and answers there.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    /// In the order in which they came into use. What is written goes to the last one; what the
    /// others lack they get once they are confirmed.
    connections: Vec<Outgoing>,
    written: Written,
    /// The other half of the only one that is left, once the peer has answered.
    confirmed: Option<ReadHalf>,
    /// For how long the peer has been silent, once it is taken for gone.
    silence: Option<Duration>,
    updates: mpsc::Receiver<Update>,
    /// Whoever waits for an update, or for this connection to take what it lacks.
    wakers: Arc<Wakers>,
    /// The race among the connections, which goes on until one is confirmed.
    race: Option<AbortOnDrop>,
}

/// All that has been written before the peer has answered. Each connection that is used is sent it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// Begins to send it on a connection that is used as well from now on.
    ///
    /// The peer takes a connection only when it has brought something, so that this does not wait
    /// for whoever uses the stream.
    pub(crate) fn join(&self, half: WriteHalf) -> Outgoing {
        let mut outgoing = Outgoing::new(half);
        self.with(|written| {
            let end = outgoing.may_send(written.len());
            // What does not fit yet follows when the stream is used.
            if let Ok(sent) = outgoing.half.try_write(&written[..end]) {
                outgoing.sent = sent;
            }
        });
        outgoing
    }

    fn len(&self) -> usize {
        self.with(|written| written.len())
    }

    fn with<T>(&self, use_bytes: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        use_bytes(&mut lock(&self.0))
    }
}

/// This side's half of a connection.
#[derive(Debug)]
pub(crate) struct Outgoing {
    half: WriteHalf,
    /// How much of what is written has been sent here.
    sent: usize,
    /// Whether it has brought the peer's opening.
    heard: bool,
}

impl Outgoing {
    const fn new(half: WriteHalf) -> Self {
        Self {
            half,
            sent: 0,
            heard: false,
        }
    }

    /// Returns how much of so many bytes may be sent here for now.
    fn may_send(&self, written: usize) -> usize {
        if self.heard {
            written
        } else {
            written.min(MAX_UNHEARD)
        }
    }

    /// Ends a connection by a reset, as soon as its other half is dropped as well: what was written
    /// on it belongs to another one.
    fn reset(self) {
        tcp::have_reset(self.half.as_ref());
        // Dropping it would send FIN.
        self.half.forget();
    }

    fn is_other_half_of(&self, half: &ReadHalf) -> bool {
        self.half.is_other_half_of(half)
    }

    fn is_between(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        let is = |address: io::Result<SocketAddr>, wanted| address.is_ok_and(|it| it == wanted);
        let tcp = self.half.as_ref();
        is(tcp.local_addr(), local) && is(tcp.peer_addr(), remote)
    }
}

impl Unconfirmed {
    pub(crate) fn new(half: WriteHalf, updates: mpsc::Receiver<Update>) -> Self {
        Self {
            connections: vec![Outgoing::new(half)],
            written: Written::default(),
            confirmed: None,
            silence: None,
            updates,
            wakers: Arc::default(),
            race: None,
        }
    }

    /// Returns what is written, now and later.
    pub(crate) fn written(&self) -> Written {
        self.written.clone()
    }

    /// Returns what wakes both directions, of which `cx` polls one.
    fn waker(&self, direction: Direction, cx: &Context<'_>) -> Waker {
        self.wakers.join(direction, cx.waker())
    }

    /// Waits until the peer has answered, on whichever connection, and everything is sent there.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.confirmed.is_none() {
            match self.updates.poll_recv(cx) {
                Poll::Ready(Some(update)) => self.update(update),
                Poll::Ready(None) => return Poll::Ready(Err(self.no_path())),
                Poll::Pending => {
                    self.send(cx);
                    return Poll::Pending;
                }
            }
        }
        self.poll_sent(cx)
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Joined(outgoing) => self.connections.push(outgoing),
            Update::Heard { local, remote } => {
                let mut all = self.connections.iter_mut();
                if let Some(heard) = all.find(|it| it.is_between(local, remote)) {
                    heard.heard = true;
                }
            }
            Update::Refuted { local, remote } => {
                let mut others = self.connections.iter();
                if let Some(at) = others.position(|it| it.is_between(local, remote)) {
                    self.connections.remove(at).reset();
                }
            }
            Update::Confirmed(half) => {
                let others = |it: &mut Outgoing| !it.is_other_half_of(&half);
                for other in self.connections.extract_if(.., others) {
                    other.reset();
                }
                for it in &mut self.connections {
                    it.heard = true;
                }
                self.confirmed = Some(half);
            }
            // Nothing else comes after that.
            Update::PeerSilent(silence) => self.silence = Some(silence),
        }
    }

    /// Sends what the last connection lacks and may have, if there is one.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(last) = self.connections.last_mut() else {
            return Poll::Ready(Ok(()));
        };
        self.written.with(|written| {
            let end = last.may_send(written.len());
            while last.sent < end {
                let rest = &written[last.sent..end];
                let count = ready!(Pin::new(&mut last.half).poll_write(cx, rest))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                last.sent += count;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Sends what can be sent now. A connection that breaks is the race's matter.
    fn send(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_sent(cx) {
            tracing::debug!(%error, "unconfirmed connection broke");
        }
    }

    /// Says why the peer has not answered on any connection: a dial has failed, though late.
    fn no_path(&self) -> io::Error {
        let failed = self
            .silence
            .map_or_else(|| DialError::Broken(no_path()), DialError::PeerSilent);
        io::Error::new(io::ErrorKind::ConnectionReset, failed)
    }

    /// Tells whether TCP has all that was written.
    fn is_sent(&self) -> bool {
        let last = self.connections.last();
        last.is_some_and(|it| it.sent == self.written.len())
    }

    /// Takes bytes to be sent, as many as there is room for.
    fn take(&mut self, bytes: &[u8]) -> usize {
        self.written.with(|written| {
            let room = MAX_UNCONFIRMED.saturating_sub(written.len());
            let taken = bytes.len().min(room);
            written.extend_from_slice(&bytes[..taken]);
            taken
        })
    }
}

fn no_path() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "no answer of the peer came, so something else is at its addresses, or nothing comes back from there; \
         dialling again may help",
    )
}

impl Transport {
    /// Ties the race among the connections to this stream, as long as it goes on.
    pub(crate) fn keep(&mut self, race: AbortOnDrop) {
        if let Self::Unconfirmed(unconfirmed) = self {
            unconfirmed.race = Some(race);
        }
    }

    /// Returns the TCP connection, once it is certain which.
    pub(crate) const fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Coordinated(_) | Self::Unconfirmed(_) | Self::Gone => None,
            Self::Direct(stream) => Some(stream.tcp()),
        }
    }

    /// Becomes direct as soon as the peer has answered.
    fn poll_direct(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        let Self::Unconfirmed(unconfirmed) = self else {
            return Poll::Ready(Ok(()));
        };
        let waker = unconfirmed.waker(direction, cx);
        let settled = ready!(unconfirmed.poll_settled(&mut Context::from_waker(&waker)));
        // The other direction has other things to wait for from now on.
        unconfirmed.wakers.wake_by_ref();
        settled?;
        let Self::Unconfirmed(unconfirmed) = std::mem::replace(self, Self::Gone) else {
            return Poll::Ready(Ok(()));
        };
        let Unconfirmed {
            mut connections,
            confirmed,
            ..
        } = *unconfirmed;
        let halves = confirmed.zip(connections.pop());
        let (reading, writing) = halves.ok_or_else(no_path)?;
        let stream = reading.reunite(writing.half).map_err(io::Error::other)?;
        *self = Self::Direct(Preamble::passed(stream));
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_direct(cx, Direction::Reading))?;
        match &mut *self {
            Self::Direct(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Coordinated(pipe) => pipe.poll_read(cx, buf),
            Self::Unconfirmed(_) | Self::Gone => Poll::Ready(Err(no_path())),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let direct = self.poll_direct(cx, Direction::Writing)?;
        match &mut *self {
            Self::Direct(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Coordinated(pipe) => pipe.write(bytes),
            Self::Unconfirmed(unconfirmed) => {
                debug_assert!(
                    direct.is_pending(),
                    "it stays unconfirmed only while it waits"
                );
                let taken = unconfirmed.take(bytes);
                let waker = unconfirmed.waker(Direction::Writing, cx);
                unconfirmed.send(&mut Context::from_waker(&waker));
                if taken > 0 || bytes.is_empty() {
                    Poll::Ready(Ok(taken))
                } else {
                    Poll::Pending
                }
            }
            Self::Gone => Poll::Ready(Err(no_path())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let direct = self.poll_direct(cx, Direction::Writing)?;
        match &mut *self {
            Self::Direct(stream) => Pin::new(stream).poll_flush(cx),
            Self::Coordinated(pipe) => pipe.flush(),
            // Whoever flushes may not come back before the peer has answered what was written.
            Self::Unconfirmed(unconfirmed) if direct.is_pending() => {
                if unconfirmed.is_sent() {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                }
            }
            Self::Unconfirmed(_) | Self::Gone => Poll::Ready(Err(no_path())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The writing half ends with what TLS has written. FIN means more, see `ending`.
        ready!(self.poll_direct(cx, Direction::Writing))?;
        match &mut *self {
            Self::Direct(stream) => Pin::new(stream).poll_flush(cx),
            Self::Coordinated(_) => Poll::Ready(Ok(())),
            Self::Unconfirmed(_) | Self::Gone => Poll::Ready(Err(no_path())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Self::Direct(stream) = &mut *self {
            return Pin::new(stream).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map_or(&[], |buf| &**buf))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
