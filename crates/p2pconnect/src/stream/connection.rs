//! The connection to a peer that a program reads and writes.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use p2pconnect_proto::{CandidateKind, PeerId, answer::NominationAnswer};
use p2pconnect_punch::How;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    sync::watch,
    time::{sleep, timeout},
};

#[cfg(doc)]
use crate::Refused;
use crate::{
    machine::tcp::have_reset,
    stream::{
        AnyLease, Established, Steps, Stream, Successor, ending,
        liveness::{Liveness, PEER},
        opened_path::{OpenedPath, UsablePath},
    },
};

/// How long a dialler that is refused may take to end its side: a few round trips, with lost
/// packets.
const REFUSAL_LIMIT: Duration = Duration::from_secs(5);

/// How often it is checked whether the peer has acknowledged everything: about as often as that may
/// be.
const ACKNOWLEDGEMENT_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A direct, authenticated byte stream to a peer.
///
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends the writing half only: the peer reads
/// end-of-file, and can go on writing. A connection that the peer drops without that ends with
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), so a cut stream is never taken for a whole one.
///
/// Bytes that have been written may still be lost, as with any TCP connection.
/// [`finish`](Self::finish) returns when the peer has handed over all of them. The peer's side says
/// so when it is finished or, after it has read everything, dropped; [`abort`](Self::abort) never
/// does.
///
/// The side that was dialled accepts the stream by its first write, flush or shutdown, or calls
/// [`refuse`](Self::refuse). The dialler's reads and writes end with an error that is [`Refused`]
/// then.
///
/// Small writes are sent at once (`TCP_NODELAY`). Every 15 s of silence TCP asks whether the peer
/// is still there, which keeps the NATs from forgetting an idle connection. Where nothing comes
/// from the peer for a minute although something should, the connection ends with an error; the
/// [builder](crate::Builder::stream_silence) sets another time.
///
/// # Cancel safety
///
/// As a [`TcpStream`](tokio::net::TcpStream): `read` and `write` lose nothing, what moves several
/// pieces, such as `read_exact` and `write_all`, may have moved some.
pub struct Connection {
    stream: Stream,
    peer: PeerId,
    liveness: Liveness,
    silence: Duration,
    /// Whether the peer has been told, or is about to be, that nothing more comes from this side.
    is_shut: bool,
    closing: Closing,
    /// What is free again when the connection ends, if this side has taken it up.
    _open: Option<AnyLease>,
}

impl Connection {
    pub(crate) fn new(peer: PeerId, established: Established) -> Self {
        let silence = established.punched.silence;
        Self {
            stream: Stream::new(established),
            peer,
            liveness: Liveness::new(silence),
            silence,
            is_shut: false,
            closing: Closing::Ended,
            _open: None,
        }
    }

    /// Begins anew with what the dial comes to, if it has to go on.
    pub(crate) fn expect(&mut self, successor: Successor) {
        self.stream.expect(successor);
    }

    /// Returns where it is noted whether the peer has answered.
    pub(crate) fn confirmation(&self) -> watch::Sender<bool> {
        self.stream.confirmation()
    }

    /// Keeps a lease for as long as the connection is there.
    pub(crate) fn taking(mut self, open: Option<AnyLease>) -> Self {
        self._open = open;
        self
    }

    /// Returns who is at the other end, proved by its key.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Returns a future that waits until the peer has answered on the TCP connection, or the
    /// connection is dropped. That takes a round trip from the return of `dial`, or longer if the
    /// dial has to go on. Nothing else of the endpoint is needed for this connection from then on,
    /// see [`Endpoint::retire`](crate::Endpoint::retire).
    ///
    /// What is written before is sent again if the dial has to go on. The peer's application still
    /// reads it in one stream at most: a peer that has taken a connection whose answer was lost
    /// refuses the next one of the dial, and reads and writes end with [`Refused`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn confirmed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut confirmation = self.stream.confirmation().subscribe();
        async move {
            // The senders go with the connection.
            drop(confirmation.wait_for(|confirmed| *confirmed).await);
        }
    }

    /// Ends the stream, and waits until the peer has handed over everything that it was sent: has
    /// written it out, has it on its disk, or whatever handing over means to its application. This
    /// side says the same of what it has read, so call this after that is done. Shuts the writing
    /// half down if that has not been done.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if the peer's bytes have not been read to
    ///   their end; the stream is broken then
    /// - [`TimedOut`](io::ErrorKind::TimedOut) if the peer's machine has received everything, and
    ///   the peer's application says nothing for as long as the peer may be silent, a minute unless
    ///   set otherwise
    /// - whatever has broken the connection
    ///
    /// After an error it is not known what the peer has.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection, and the peer may take that for this side's word
    /// that all has been handed over.
    pub async fn finish(mut self) -> io::Result<()> {
        self.shutdown().await?;
        if self.read(&mut [0]).await? != 0 {
            self.abort();
            return Err(unread());
        }
        let tcp = self.stream.tcp();
        let tcp = tcp.ok_or(io::ErrorKind::NotConnected)?;
        let ended = ending::hand_over(tcp, &mut self.liveness, self.silence).await;
        ended.map_err(|error| self.explained(error))
    }

    /// Breaks the stream off: the peer's reads end with an error, or if the writing half has been
    /// shut down its [`finish`](Self::finish) does. In that case bytes under way are lost; wait for
    /// [`acknowledged`](Self::acknowledged) before where they matter.
    pub fn abort(mut self) {
        self.closing = Closing::Broken;
    }

    /// Waits until the peer's machine has received everything that was written, which says nothing
    /// of its application. There is no limit on how long the peer may take.
    ///
    /// # Errors
    ///
    /// Whatever has broken the connection.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn acknowledged(&mut self) -> io::Result<()> {
        loop {
            self.flush().await?;
            match self.stream.tcp() {
                Some(tcp) if !ending::is_under_way(tcp) => return Ok(()),
                // Without one, nobody has answered yet.
                Some(_) | None => sleep(ACKNOWLEDGEMENT_POLL_INTERVAL).await,
            }
        }
    }

    /// Is ready with an error once the connection has broken though the peer has ended its bytes,
    /// and wakes the task to look again. Reading has nothing more to tell then, and whoever has
    /// nothing to write would not notice that the peer is gone. A peer that has ended its bytes and
    /// reads on is not.
    ///
    /// After this side's own end, only a peer that acknowledges nothing is found by this;
    /// [`finish`](Self::finish) finds out about the others.
    ///
    /// # Errors
    ///
    /// - [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the peer has closed the connection
    ///   before this side's end
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if the peer's bytes have not been read to
    ///   their end: until then, reading tells
    /// - whatever has broken the connection
    pub fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let tcp = self.stream.tcp();
        let Some(tcp) = tcp.filter(|_| self.closing == Closing::HandingOver) else {
            return Poll::Ready(unread());
        };
        if !self.is_shut
            && let Poll::Ready(error) = ending::poll_gone(tcp, cx)
        {
            return Poll::Ready(self.explained(error));
        }
        self.liveness.poll_dead_peer(tcp, cx)
    }

    /// Lets the dialler know that this side does not want the stream, and why: its reads and writes
    /// end with [`Refused`]. Of the reason, at most 256 bytes are sent; it is shown to the people
    /// at the other end.
    ///
    /// What the dialler has sent meanwhile is discarded.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) on the side that dialled, and if the stream
    ///   has been accepted already, by writing, flushing or shutting down
    /// - whatever has broken the connection
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection; the dialler may not hear of the refusal.
    pub async fn refuse(mut self, reason: &str) -> io::Result<()> {
        if !self.stream.take_answer() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "only a stream that has been dialled and not accepted can be refused",
            ));
        }
        let refusal = NominationAnswer::Refused(reason.to_owned()).encode();
        self.write_all(&refusal).await?;
        self.shutdown().await?;
        let discarding = async {
            let mut bytes = [0; 4096];
            while matches!(self.read(&mut bytes).await, Ok(1..)) {}
        };
        // A dialler that goes on sending hears of it all the same, most likely.
        drop(timeout(REFUSAL_LIMIT, discarding).await);
        Ok(())
    }

    /// Returns how the connection was made.
    ///
    /// The dialler may use a TCP connection before the peer has answered on it. Should another one
    /// take its place, the path is another from then on, or once the stream is read or written if
    /// that took another introduction; when a byte of the peer's has been read, it changes no more.
    #[must_use]
    pub fn path(&self) -> Path {
        let (path, steps) = self.stream.path();
        Path::new(path, steps)
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

/// What closing the socket is to tell the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// That there is nothing more to come.
    Ended,
    /// The peer has sent all that it will. Closing says that it has been handed over, so a process
    /// that is killed before must not close in that way.
    HandingOver,
    /// That the stream has broken.
    Broken,
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

impl Path {
    fn new(
        UsablePath {
            opened,
            stats,
            since,
        }: UsablePath,
        steps: Steps,
    ) -> Self {
        let OpenedPath { pair, how, at } = opened;
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
    /// Returns what became of reading or writing, or an error if that waits for a peer that is
    /// gone.
    fn or_dead<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled.map_err(|error| self.explained(error));
        }
        match self.stream.tcp() {
            Some(tcp) => self.liveness.poll_dead_peer(tcp, cx).map(Err),
            None => Poll::Pending,
        }
    }

    fn explained(&self, error: io::Error) -> io::Error {
        Liveness::explained(error, &PEER, self.silence)
    }

    /// Takes note of the peer's `close_notify`, wherever the application is in what came before it.
    fn note_the_end(&mut self) {
        if self.closing != Closing::Ended {
            return;
        }
        let has_ended = self
            .stream
            .received()
            .is_some_and(|it| it.peer_has_closed());
        if let (true, Some(tcp)) = (has_ended, self.stream.tcp()) {
            self.closing = Closing::HandingOver;
            have_reset(tcp);
        }
    }

    /// Tells whether nothing has come that the application has not read.
    fn is_read(&mut self) -> bool {
        self.stream
            .received()
            .is_some_and(|it| it.plaintext_bytes_to_read() == 0)
    }
}

fn unread() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "the peer's bytes have not been read to their end",
    )
}

impl Drop for Connection {
    fn drop(&mut self) {
        let is_read = self.is_read();
        let Some(tcp) = self.stream.tcp() else {
            return;
        };
        let closed = match self.closing {
            Closing::Ended => Ok(()),
            // Whoever has read to the end and drops the connection has no more to do with what
            // came.
            Closing::HandingOver if is_read => tcp.deliver_on_close(),
            // The end of the bytes lacks before FIN then, and what was sent arrives.
            Closing::Broken if !self.is_shut => tcp.deliver_on_close(),
            Closing::HandingOver | Closing::Broken => tcp.reset_on_close(),
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "a connection closes in another way than meant");
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
        self.note_the_end();
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
        self.is_shut = true;
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
