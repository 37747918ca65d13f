//! What is sent over each program's stream, and counted.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::processor_time;

/// How much is written and read at a time: as much as a program that copies files would, and the
/// same for everybody.
const CHUNK: usize = 64 * 1024;

/// What arrived at a listener.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// How many bytes.
    pub bytes: u64,
    /// From the first of them to the last.
    pub time: Duration,
    /// What receiving them took of processors.
    pub processor: Duration,
    /// What accepting the stream took of processors before.
    pub accepting: Duration,
}

/// Fills a stream for some time, and returns how much was sent and what arrived.
///
/// # Errors
///
/// Those of the stream.
pub async fn fill<S>(mut stream: S, time: Duration) -> io::Result<(u64, Received)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (chunk, began) = (vec![0x5a; CHUNK], Instant::now());
    let mut sent = 0;
    if time.is_zero() {
        stream.write_all(&chunk[..1]).await?;
        sent = 1;
    }
    while began.elapsed() < time {
        stream.write_all(&chunk).await?;
        sent += CHUNK as u64;
    }
    stream.flush().await?;
    stream.shutdown().await?;
    let mut number = async || stream.read_u64().await;
    let received = Received {
        bytes: number().await?,
        time: Duration::from_nanos(number().await?),
        processor: Duration::from_nanos(number().await?),
        accepting: Duration::from_nanos(number().await?),
    };
    Ok((sent, received))
}

/// Reads a stream to its end, and answers what came.
///
/// # Errors
///
/// Those of the stream.
pub async fn answer<S>(mut stream: S, accepting: Duration) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK];
    let mut bytes = stream.read(&mut chunk).await? as u64;
    let (began, before) = (Instant::now(), processor_time());
    let mut last = began;
    loop {
        match stream.read(&mut chunk).await? {
            0 => break,
            more => bytes += more as u64,
        }
        last = Instant::now();
    }
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let processor = processor_time() - before;
    for number in [
        bytes,
        nanos(last - began),
        nanos(processor),
        nanos(accepting),
    ] {
        stream.write_u64(number).await?;
    }
    stream.flush().await?;
    stream.shutdown().await
}
