use std::io;

use anyhow::{Context as _, anyhow};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Four TLS records; larger buffers gained nothing, smaller ones cost system calls.
const BUFFER: usize = 64 * 1024;

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

/// Carries bytes both ways until both directions have ended. The end of one is passed on at once
/// and leaves the other open.
///
/// # Errors
///
/// The first error on either side. An output that nobody reads any more is one.
pub(crate) async fn pump(
    connection: impl AsyncRead + AsyncWrite,
    input: impl AsyncRead,
    output: impl AsyncWrite,
) -> anyhow::Result<Transferred> {
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
) -> anyhow::Result<u64> {
    tokio::pin!(from, to);
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let read = from.read(&mut buffer).await;
        let read = read.map_err(|error| source.reading(error))?;
        if read == 0 {
            to.shutdown().await.context(sink.writing())?;
            return Ok(total);
        }
        to.write_all(&buffer[..read])
            .await
            .context(sink.writing())?;
        to.flush().await.context(sink.writing())?;
        total += read as u64;
    }
}

impl End {
    fn reading(self, error: io::Error) -> anyhow::Error {
        match self {
            // The TLS library's own text is for programmers.
            Self::Peer if error.kind() == io::ErrorKind::UnexpectedEof => {
                anyhow!("the peer went away before the end of its bytes")
            }
            Self::Peer => anyhow::Error::new(error).context("the connection to the peer broke"),
            Self::Local => anyhow::Error::new(error).context("the input cannot be read"),
        }
    }

    const fn writing(self) -> &'static str {
        match self {
            Self::Peer => "the connection to the peer broke",
            Self::Local => "the output takes no more",
        }
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
            pump(connection, empty(), output),
            writer.write_all(b"for nobody"),
        );
        assert!(written.is_ok());
        let error = pumped.expect_err("nobody reads the output");
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
        let (pumped, read) = tokio::join!(pump(connection, &b"three"[..], sink()), far);
        let counted = pumped.ok();
        let expected = Transferred {
            sent: 5,
            received: 4,
        };
        assert_eq!(counted, Some(expected));
        assert_eq!(read.ok().as_deref(), Some(&b"three"[..]));
    }
}
