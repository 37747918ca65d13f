use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use p2pconnect_proto::{CandidateKind, PeerId};
use p2pconnect_punch::How;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::TlsStream;

use crate::{
    in_use::{InUse, Usage},
    liveness::Liveness,
    more_ports::Place,
    session::{OpenedWay, Punched},
    transport::Transport,
};

/// A direct, authenticated byte stream to a peer.
///
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends the writing half only: the peer reads
/// end-of-file, and can go on writing. A connection that the peer drops without that ends with
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), so a cut stream is never taken for a whole one.
///
/// Small writes are sent at once (`TCP_NODELAY`). Every 15 s of silence TCP asks whether the peer is
/// still there, which keeps the NATs from forgetting an idle connection. Where nothing comes from the peer for a
/// minute although something should, the connection ends with an error; the
/// [builder](crate::Builder::stream_silence) sets another time.
///
/// # Cancel safety
///
/// As a [`TcpStream`](tokio::net::TcpStream): `read` and `write` lose nothing, what moves several pieces,
/// such as `read_exact` and `write_all`, may have moved some.
pub struct Connection {
    stream: TlsStream<Transport>,
    peer: PeerId,
    in_use: Arc<InUse>,
    steps: Steps,
    liveness: Liveness,
    /// What is free again when the connection ends.
    _place: Place,
    /// The same, if this side has taken it up.
    _open: Option<OwnedSemaphorePermit>,
}

impl Connection {
    pub(crate) fn new(punched: Punched, peer: PeerId, steps: Steps, place: Place) -> Self {
        let Punched {
            stream,
            in_use,
            silence,
        } = punched;
        Self {
            stream,
            peer,
            in_use,
            steps,
            liveness: Liveness::new(silence),
            _place: place,
            _open: None,
        }
    }

    /// Keeps a permit for as long as the connection is there.
    pub(crate) fn taking(self, open: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            _open: open,
            ..self
        }
    }

    /// Returns who is at the other end, proved by its key.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Returns a future that waits until the peer has answered on the TCP connection, which takes a
    /// round trip from the return of `dial`, or the connection is dropped. Nothing else of the endpoint
    /// is needed for this connection from then on, see [`Endpoint::retire`](crate::Endpoint::retire).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn confirmed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut confirmation = self.in_use.confirmation();
        async move {
            // The sender goes with the connection.
            drop(confirmation.wait_for(|confirmed| *confirmed).await);
        }
    }

    /// Returns how the connection was made.
    ///
    /// The dialler may use a TCP connection before the peer has answered on it. Should another one
    /// take its place within that round trip, the path is another from then on; once a byte of the
    /// peer's has been read, it changes no more.
    #[must_use]
    pub fn path(&self) -> Path {
        Path::new(self.in_use.now(), self.steps)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// How a connection was made, seen from this side.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Path {
    /// The way TCP opened it.
    pub how: How,
    /// The address on this side.
    pub local: SocketAddr,
    /// The peer's address as seen from this side, usually its NAT's.
    pub remote: SocketAddr,
    /// What the remote address is: the peer's own, its NAT's, or its router's by a port mapping.
    pub kind: CandidateKind,
    /// How many TCP connections this side attempted since the introduction, this one among them if
    /// this side connected.
    pub attempts: u32,
    /// How many of the attempts repeated one between the same addresses.
    pub redials: u32,
    /// How long each step took.
    pub times: PathTimes,
}

/// How long the steps took, each counted from the beginning: the call of `dial`, or on the
/// accepting side the arrival of the introduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathTimes {
    /// Until the introduction was there and punching began.
    pub introduced: Duration,
    /// Until the TCP connection was open.
    pub tcp: Duration,
    /// Until both sides were authenticated and application bytes could be sent.
    pub established: Duration,
    /// How many introductions it took.
    pub rounds: u32,
}

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

impl Path {
    fn new(Usage { way, stats, since }: Usage, steps: Steps) -> Self {
        let OpenedWay { pair, how, at } = way;
        let tcp = at.saturating_duration_since(steps.began);
        let usable = steps.usable.max(since);
        let times = PathTimes {
            // Of the peer's dial, which may be further than the answer to ours.
            introduced: steps.introduced.min(tcp),
            tcp,
            established: usable.saturating_duration_since(steps.began),
            rounds: steps.rounds,
        };
        Self {
            how,
            local: pair.local,
            remote: pair.remote,
            kind: pair.kind,
            attempts: stats.attempts,
            redials: stats.redials,
            times,
        }
    }
}

impl Connection {
    /// Returns what became of reading or writing, or an error if that waits for a peer that is gone.
    fn or_dead<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        match self.stream.get_ref().0.tcp() {
            Some(tcp) => self.liveness.poll_dead(tcp, cx).map(Err),
            None => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.or_dead(polled, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.or_dead(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.or_dead(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.or_dead(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.or_dead(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
