//! Stdin and stdout, and what is said on stderr, also where somebody has made them non-blocking.
//!
//! `O_NONBLOCK` belongs to the open file, which is shared with whoever has it as well: a shell, a
//! parent process, another program on the same terminal. None of them expects this program to
//! change it, so reading and writing wait until the file is ready, and go on.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Read, Write},
    net::Shutdown,
    os::fd::BorrowedFd,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, ready},
    time::SystemTime,
};

use rustix::io::Errno;
use serde_json::json;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{JoinHandle, spawn_blocking},
};

use crate::{patient::Patient, stderr, words::in_words};

/// How much is read or written at a time, off the runtime's own threads: as much as the stream is
/// carried in.
const CHUNK: usize = 64 * 1024;

/// Returns stdout, for what is no stream.
pub(crate) fn stdout() -> impl Write {
    Patient(rustix::stdio::stdout())
}

/// Whether what is said is for programs, as the lines of a log are.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Has everything said to programs from now on, as the lines of a log in JSON.
pub(crate) fn speak_json() {
    IS_JSON.store(true, Ordering::Relaxed);
    stderr::speak_json();
}

/// Says a line on stderr, in one piece, without the numbers that the system has for its errors.
pub(crate) fn say(line: impl fmt::Display) {
    let mut line = in_words(&line.to_string());
    if IS_JSON.load(Ordering::Relaxed) {
        line = as_json(&line, SystemTime::now());
    }
    stderr::write(format!("{line}\n").as_bytes());
}

/// Returns what a log in JSON has for a line to people, whose first word says how grave it is.
fn as_json(line: &str, now: SystemTime) -> String {
    let levels = [
        ("error: ", "ERROR"),
        ("warning: ", "WARN"),
        ("note: ", "INFO"),
    ];
    let known = levels
        .into_iter()
        .find_map(|(word, level)| Some((level, line.strip_prefix(word)?)));
    let (level, message) = known.unwrap_or(("INFO", line));
    let timestamp = humantime::format_rfc3339_micros(now).to_string();
    let target = env!("CARGO_CRATE_NAME");
    json!({ "timestamp": timestamp, "level": level, "message": message, "target": target })
        .to_string()
}

/// Whoever reads stdout has closed it, and needs no more of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReaderLeft;

impl fmt::Display for ReaderLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whoever reads stdout has closed it")
    }
}

impl std::error::Error for ReaderLeft {}

impl ReaderLeft {
    /// Returns the same if this is what an error says.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let wrapped = error.get_ref().and_then(|it| it.downcast_ref().copied());
        wrapped
            .or_else(|| (error.raw_os_error() == Some(Errno::PIPE.raw_os_error())).then_some(Self))
    }
}

/// Returns an error that says which file it is about.
fn broken(what: &'static str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), anyhow::Error::new(error).context(what))
}

/// The stream's way in.
///
/// A read that has begun cannot be cancelled: it goes on, and takes bytes, after this has been
/// dropped.
#[derive(Debug, Default)]
pub(crate) struct Stdin {
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
    /// What has been read and not taken.
    chunk: Vec<u8>,
    taken: usize,
}

fn read_chunk() -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let read = Patient(rustix::stdio::stdin()).read(&mut chunk);
    let read = read.map_err(|error| broken("stdin cannot be read", error))?;
    chunk.truncate(read);
    Ok(chunk)
}

impl AsyncRead for Stdin {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.taken == this.chunk.len() {
            let reading = this
                .reading
                .get_or_insert_with(|| spawn_blocking(read_chunk));
            let read = ready!(Pin::new(reading).poll(cx));
            this.reading = None;
            this.chunk = read.map_err(io::Error::other)??;
            this.taken = 0;
        }
        let rest = &this.chunk[this.taken..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

/// The stream's way out. Shutting it down lets whoever reads it see the end, though this process
/// goes on.
#[derive(Debug, Default)]
pub(crate) struct Stdout {
    writing: Option<JoinHandle<io::Result<()>>>,
}

impl Stdout {
    /// Waits until what was written before is out.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(writing) = &mut self.writing else {
            return Poll::Ready(Ok(()));
        };
        let written = ready!(Pin::new(writing).poll(cx));
        self.writing = None;
        Poll::Ready(written.map_err(io::Error::other)?)
    }
}

impl AsyncWrite for Stdout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(cx))?;
        let chunk = buf[..buf.len().min(CHUNK)].to_vec();
        let len = chunk.len();
        self.writing = Some(spawn_blocking(move || {
            let written = stdout().write_all(&chunk);
            written.map_err(|error| match ReaderLeft::of(&error) {
                Some(left) => io::Error::new(error.kind(), left),
                None => broken("stdout takes no more", error),
            })
        }));
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(cx))?;
        Poll::Ready(end(rustix::stdio::stdout()))
    }
}

/// Ends stdout for its reader.
fn end(stdout: BorrowedFd<'_>) -> io::Result<()> {
    // A socket may be stdin too, and then closing one of the two ends nothing.
    if let Err(error) = SockRef::from(&stdout).shutdown(Shutdown::Write) {
        tracing::trace!(%error, "stdout is no socket");
    }
    // The number stays taken, lest the next file that is opened gets it.
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_are_told_is_a_line_of_a_log_for_programs() {
        for (line, level, message) in [
            ("error: it is \"taken\"", "ERROR", "it is \"taken\""),
            ("warning: as root", "WARN", "as root"),
            ("note: a\nb", "INFO", "a\nb"),
            ("else", "INFO", "else"),
        ] {
            let told = as_json(line, SystemTime::UNIX_EPOCH);
            assert!(!told.contains('\n'), "{told}");
            let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
            let wanted = json!({
                "timestamp": "1970-01-01T00:00:00.000000Z",
                "level": level,
                "message": message,
                "target": "p2pconnect_cli",
            });
            assert_eq!(told, wanted);
        }
    }
}
