//! Carries a stream between the peer and this machine.

use std::{io, time::Duration};

use anyhow::{Context as _, anyhow};
use p2pconnect::{Connection, Refused, Shortage};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

/// Four TLS records; larger buffers gained nothing, smaller ones cost system calls.
const BUFFER: usize = 64 * 1024;

/// How long the last bytes before an error on this side may take to the peer, which may read slowly.
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

/// An error, and on which side it is.
#[derive(Debug)]
struct Broken {
    at: End,
    error: anyhow::Error,
}

/// Carries bytes both ways until both directions have ended, and each side has handed over what the other sent.
/// The end of one direction is passed on at once and leaves the other open.
///
/// # Errors
///
/// The first error on either side. An output that nobody reads any more is one. The peer sees that the stream
/// has broken, also where the future is dropped. [`Refused`] if the peer does not want the stream.
pub(crate) async fn pump(
    connection: Connection,
    input: impl AsyncRead,
    output: impl AsyncWrite,
) -> anyhow::Result<Transferred> {
    pump_until(std::future::pending(), connection, input, output).await
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
) -> anyhow::Result<Transferred> {
    let mut open = Open(Some(connection));
    let carrying = both_ways(open.connection()?, input, output);
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
    connection
        .finish()
        .await
        .map_err(peers)
        .context("it is not known whether the peer has all that was sent")?;
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

async fn both_ways(
    connection: impl AsyncRead + AsyncWrite,
    input: impl AsyncRead,
    output: impl AsyncWrite,
) -> Result<Transferred, Broken> {
    let (from_peer, to_peer) = tokio::io::split(connection);
    let (sent, received) = tokio::try_join!(
        carry(input, End::Local, to_peer, End::Peer),
        carry(from_peer, End::Peer, output, End::Local),
    )?;
    Ok(Transferred { sent, received })
}

async fn carry(
    from: impl AsyncRead,
    source: End,
    to: impl AsyncWrite,
    sink: End,
) -> Result<u64, Broken> {
    tokio::pin!(from, to);
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let read = from.read(&mut buffer).await;
        let read = read.map_err(|error| source.reading(error))?;
        if read == 0 {
            to.shutdown().await.map_err(|error| sink.writing(error))?;
            return Ok(total);
        }
        let writing = async {
            to.write_all(&buffer[..read]).await?;
            to.flush().await
        };
        writing.await.map_err(|error| sink.writing(error))?;
        total += read as u64;
    }
}

impl End {
    fn reading(self, error: io::Error) -> Broken {
        self.broken(error, "the input cannot be read")
    }

    fn writing(self, error: io::Error) -> Broken {
        self.broken(error, "the output takes no more")
    }

    fn broken(self, error: io::Error, here: &'static str) -> Broken {
        let error = match self {
            Self::Peer => peers(error),
            // A machine that lacks something is to blame, and not what is read or written.
            Self::Local => match Shortage::of(&error) {
                Some(shortage) => shortage.into(),
                None => anyhow::Error::new(error).context(here),
            },
        };
        Broken { at: self, error }
    }
}

/// Says what is wrong with the connection to the peer.
fn peers(error: io::Error) -> anyhow::Error {
    if let Some(refused) = Refused::of(&error) {
        return refused.clone().into();
    }
    match error.kind() {
        // The TLS library's own text is for programmers.
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => {
            anyhow!(
                "the peer went away before the end of its bytes, or the service behind it did; only its side \
                 knows which"
            )
        }
        _ => anyhow::Error::new(error).context("the connection to the peer broke"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{duplex, empty, sink};

    use super::*;

    #[tokio::test]
    async fn an_error_tells_where_it_happened() {
        let (connection, far_end) = duplex(64);
        let (output, reader) = duplex(64);
        drop(reader);
        let (_, mut writer) = tokio::io::split(far_end);
        let (pumped, written) = tokio::join!(
            both_ways(connection, empty(), output),
            writer.write_all(b"for nobody"),
        );
        assert!(written.is_ok());
        let Broken { at, error } = pumped.expect_err("nobody reads the output");
        assert_eq!(at, End::Local);
        assert!(error.to_string().contains("output"), "{error:#}");
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
        let (pumped, read) = tokio::join!(both_ways(connection, &b"three"[..], sink()), far);
        let counted = pumped.ok();
        let expected = Transferred {
            sent: 5,
            received: 4,
        };
        assert_eq!(counted, Some(expected));
        assert_eq!(read.ok().as_deref(), Some(&b"three"[..]));
    }
}
