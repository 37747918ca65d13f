//! Carries a stream between the peer and this machine.

use std::{
    fmt,
    future::{pending, poll_fn},
    io,
    sync::Mutex,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use p2pconnect::{Connection, DialError, Refused};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::{halves::Half, shortage, stdio::ReaderLeft};

/// Four TLS records; larger buffers gained nothing, smaller ones cost system calls.
const BUFFER: usize = 64 * 1024;

/// How long the last bytes before an error on this side may take to the peer, which may read
/// slowly.
const LAST_BYTES: Duration = Duration::from_secs(60);

/// How many bytes went each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Transferred {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// One end of the way that bytes take here, for whoever reads of an error there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Peer,
    Local,
}

/// What broke, and where. What is on this side names itself.
#[derive(Debug)]
struct Fault {
    at: End,
    error: io::Error,
}

/// An error, and on which side it is.
#[derive(Debug)]
struct Broken {
    at: End,
    error: anyhow::Error,
}

/// Tells whether a connection has broken though its peer has ended its bytes, as
/// [`Connection::poll_broken`] does.
type PollBroken<C> = fn(&mut C, &mut Context<'_>) -> Poll<io::Error>;

/// Carries bytes both ways until both directions have ended, and each side has handed over what the
/// other sent. The end of one direction is passed on at once and leaves the other open;
/// `peer_ended` is called where it is this side that goes on.
///
/// # Errors
///
/// The first error on either side. An output that nobody reads any more is one. The peer sees that
/// the stream has broken, also where the future is dropped. [`Refused`] if the peer does not want
/// the stream, and [`DialError`] if it has not answered on any connection that was used.
pub(crate) async fn pump(
    connection: Connection,
    input: impl AsyncRead,
    output: impl AsyncWrite,
    peer_ended: impl FnOnce(),
) -> anyhow::Result<Transferred> {
    pump_until(pending(), connection, input, output, peer_ended).await
}

/// Does what [`pump`] does, and ends with the error that `broken` gives, should it come.
///
/// # Errors
///
/// As [`pump`].
pub(crate) async fn pump_until(
    broken: impl Future<Output = anyhow::Error>,
    connection: Connection,
    input: impl AsyncRead,
    output: impl AsyncWrite,
    peer_ended: impl FnOnce(),
) -> anyhow::Result<Transferred> {
    let mut open = Open(Some(connection));
    let carrying = both_ways(
        open.connection()?,
        |connection, cx| connection.poll_broken(cx),
        input,
        output,
        peer_ended,
    );
    let carried = tokio::select! {
        carried = carrying => carried,
        error = broken => Err(Broken { at: End::Local, error }),
    };
    let transferred = match carried {
        Ok(transferred) => transferred,
        Err(Broken { at, error }) => {
            if at == End::Local {
                // What came before the error is the peer's.
                drop(timeout(LAST_BYTES, open.connection()?.acknowledged()).await);
            }
            return Err(error);
        }
    };
    let connection = open.0.take().context(GONE)?;
    let finished = connection.finish().await;
    finished.map_err(|error| peers(error, true))?;
    Ok(transferred)
}

/// What is said of a connection that is not there; it always is.
const GONE: &str = "the connection is gone";

/// A connection whose peer sees that the stream has broken, unless it is taken out.
struct Open(Option<Connection>);

impl Open {
    fn connection(&mut self) -> anyhow::Result<&mut Connection> {
        self.0.as_mut().context(GONE)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.abort();
        }
    }
}

async fn both_ways<C: AsyncRead + AsyncWrite + Unpin>(
    connection: C,
    poll_broken: PollBroken<C>,
    input: impl AsyncRead,
    output: impl AsyncWrite,
    peer_ended: impl FnOnce(),
) -> Result<Transferred, Broken> {
    let connection = Mutex::new(connection);
    let half = || Half::of(&connection);
    let sending = carry(input, End::Local, half(), End::Peer);
    let receiving = carry(half(), End::Peer, output, End::Local);
    tokio::pin!(sending, receiving);
    let (mut sent, mut received) = (None, None);
    let mut peer_ended = Some(peer_ended);
    loop {
        let broken = poll_fn(|cx| poll_broken(&mut half().whole(), cx));
        let fault = tokio::select! {
            count = &mut sending, if sent.is_none() => count.map(|count| sent = Some(count)).err(),
            count = &mut receiving, if received.is_none() => {
                count.map(|count| received = Some(count)).err()
            }
            error = broken, if received.is_some() => Some(End::Peer.broke()(error)),
        };
        if let Some(fault) = fault {
            return Err(fault.told(received.is_some()));
        }
        match (sent, received) {
            (Some(sent), Some(received)) => return Ok(Transferred { sent, received }),
            (None, Some(_)) => {
                if let Some(peer_ended) = peer_ended.take() {
                    peer_ended();
                }
            }
            (_, None) => {}
        }
    }
}

async fn carry(
    from: impl AsyncRead,
    source: End,
    to: impl AsyncWrite,
    sink: End,
) -> Result<u64, Fault> {
    tokio::pin!(from, to);
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let read = from.read(&mut buffer).await.map_err(source.broke())?;
        if read == 0 {
            to.shutdown().await.map_err(sink.broke())?;
            return Ok(total);
        }
        let writing = async {
            to.write_all(&buffer[..read]).await?;
            to.flush().await
        };
        writing.await.map_err(sink.broke())?;
        total += read as u64;
    }
}

impl End {
    fn broke(self) -> impl Fn(io::Error) -> Fault {
        move |error| Fault { at: self, error }
    }
}

impl Fault {
    /// Says what is wrong, to a person who may know whether the peer has ended its bytes.
    fn told(self, peer_has_ended: bool) -> Broken {
        let error = match self.at {
            End::Peer => peers(self.error, peer_has_ended),
            End::Local => {
                if let Some(left) = ReaderLeft::of(&self.error) {
                    let error = left.into();
                    return Broken { at: self.at, error };
                }
                let error = self.error.into();
                // A machine that lacks something is to blame, and not what is read or written.
                shortage::of(&error).map_or(error, Into::into)
            }
        };
        Broken { at: self.at, error }
    }
}

/// What is known of the bytes of this side, and what can be done.
const UNCONFIRMED: &str = "has not confirmed that it has all that was sent to it; look there how much has arrived, \
                           or send it again";

/// The peer is gone, and has not said that it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerLeft {
    /// Whether it had ended its bytes.
    has_ended: bool,
    /// Whether it may be a service that has gone, which the peer carries the stream to.
    may_be_service: bool,
}

impl PeerLeft {
    pub(crate) const fn or_a_service(self) -> Self {
        Self {
            may_be_service: true,
            ..self
        }
    }
}

impl fmt::Display for PeerLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.may_be_service {
            "the peer, or the service behind it,"
        } else {
            "the peer"
        };
        if self.has_ended {
            write!(f, "{who} went away, and {UNCONFIRMED}")
        } else {
            write!(
                f,
                "{who} went away before the end of its bytes, so some of them are missing here"
            )
        }
    }
}

impl std::error::Error for PeerLeft {}

/// Says what is wrong with the connection to the peer, which may have ended its bytes before.
fn peers(error: io::Error, has_ended: bool) -> anyhow::Error {
    if let Some(refused) = Refused::of(&error) {
        return refused.clone().into();
    }
    let error = match error.downcast::<DialError>() {
        // The peer had not answered yet.
        Ok(failed) => return failed.into(),
        Err(error) => error,
    };
    match error.kind() {
        // The TLS library's own text is for programmers.
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => PeerLeft {
            has_ended,
            may_be_service: false,
        }
        .into(),
        io::ErrorKind::InvalidData => anyhow!(
            "what came from the peer is not what its side sends ({error}); a device on the way changes it, or a \
             machine is faulty, so a new connection may be better"
        ),
        _ if has_ended => anyhow!("{error}. The peer {UNCONFIRMED}"),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex, empty, sink};

    use super::*;
    use crate::words::with_causes;

    const UNBROKEN: PollBroken<DuplexStream> = |_, _| Poll::Pending;

    #[tokio::test]
    async fn an_error_tells_where_it_happened() {
        let (connection, far_end) = duplex(64);
        let (output, reader) = duplex(64);
        drop(reader);
        let (_, mut writer) = tokio::io::split(far_end);
        let (pumped, written) = tokio::join!(
            both_ways(connection, UNBROKEN, empty(), output, || {}),
            writer.write_all(b"for nobody"),
        );
        assert!(written.is_ok());
        let Broken { at, .. } = pumped.expect_err("nobody reads the output");
        assert_eq!(at, End::Local);
    }

    #[test]
    fn bytes_that_are_changed_on_the_way_are_said_to_be_that() {
        let text = |kind| peers(io::Error::new(kind, "DecryptError"), false).to_string();
        let changed = text(io::ErrorKind::InvalidData);
        assert!(changed.contains("on the way changes it"), "{changed}");
        let reset = text(io::ErrorKind::ConnectionReset);
        assert!(
            reset.ends_with("the end of its bytes, so some of them are missing here"),
            "{reset}"
        );
    }

    #[test]
    fn what_is_known_of_the_bytes_is_said_once_with_what_to_do() {
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::TimedOut] {
            let told = with_causes(&peers(kind.into(), true));
            assert_eq!(told.matches("sent").count(), 1, "{told}");
            assert!(told.contains("has not confirmed"), "{told}");
            assert!(told.ends_with("or send it again"), "{told}");
        }
    }

    #[tokio::test]
    async fn each_direction_is_counted_and_ended() {
        let (connection, mut far_end) = duplex(64);
        let far = async {
            far_end.write_all(b"four").await?;
            far_end.shutdown().await?;
            let mut read = Vec::new();
            far_end.read_to_end(&mut read).await?;
            Ok::<_, io::Error>(read)
        };
        let (pumped, read) = tokio::join!(
            both_ways(connection, UNBROKEN, &b"three"[..], sink(), || {}),
            far
        );
        let counted = pumped.ok();
        let expected = Transferred {
            sent: 5,
            received: 4,
        };
        assert_eq!(counted, Some(expected));
        assert_eq!(read.ok().as_deref(), Some(&b"three"[..]));
    }
}
