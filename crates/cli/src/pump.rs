use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Four TLS records; larger buffers gained nothing, smaller ones cost system calls.
const BUFFER: usize = 64 * 1024;

/// How many bytes went each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Transferred {
    pub(crate) sent: u64,
    pub(crate) received: u64,
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
) -> io::Result<Transferred> {
    let (from_peer, to_peer) = tokio::io::split(connection);
    let (sent, received) = tokio::try_join!(carry(input, to_peer), carry(from_peer, output))?;
    Ok(Transferred { sent, received })
}

async fn carry(from: impl AsyncRead, to: impl AsyncWrite) -> io::Result<u64> {
    tokio::pin!(from, to);
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            to.shutdown().await?;
            return Ok(total);
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        total += read as u64;
    }
}
