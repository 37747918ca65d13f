//! Pipes that bring a key, such as a shell's `<(...)` from a program that keeps secrets.

use std::{
    fs::{File, FileType, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    io::Errno,
};

/// How long a key may take to come. Somebody may have to type a passphrase for the program that
/// sends it.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Tells whether a file is a pipe, with a name or without.
pub(super) fn is_pipe(kind: FileType) -> bool {
    kind.is_fifo()
}

/// A pipe that is read with a limit of time for all of it.
pub(super) struct Pipe {
    file: File,
    deadline: Instant,
}

/// Opens a pipe to read what comes within the limit. Does not wait for its writer yet.
pub(super) fn open(path: &Path, limit: Duration) -> io::Result<Pipe> {
    let mut options = OpenOptions::new();
    // It is a number of bits; no flag is above them.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.read(true).custom_flags(flags).open(path)?;
    let deadline = Instant::now() + limit;
    Ok(Pipe { file, deadline })
}

impl Pipe {
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// Waits until something has come, or the end.
    fn wait(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&left)) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nobody has sent a key through it, or not all of it",
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            // A pipe whose writer has not come yet looks as one whose writer has gone.
            self.wait()?;
            match rustix::io::read(&self.file, &mut *buf) {
                Err(Errno::AGAIN) => {}
                read => return Ok(read?),
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::{
        io::{PipeReader, Write as _, pipe},
        os::fd::AsRawFd as _,
    };

    use super::*;

    fn opened(reader: &PipeReader, limit: Duration) -> Pipe {
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        open(Path::new(&path), limit).unwrap()
    }

    #[test]
    fn what_comes_in_parts_is_read_to_its_end() {
        let (reader, mut writer) = pipe().unwrap();
        let mut pipe = opened(&reader, Duration::from_secs(60));
        let writing = std::thread::spawn(move || {
            for part in ["one ", "two"] {
                writer.write_all(part.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let mut all = String::new();
        pipe.read_to_string(&mut all).unwrap();
        writing.join().unwrap();
        assert_eq!(all, "one two");
    }

    #[test]
    fn a_writer_that_sends_nothing_is_waited_for_with_a_limit() {
        let (reader, _writer) = pipe().unwrap();
        let mut pipe = opened(&reader, Duration::from_millis(20));
        let error = pipe.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_writer_that_is_gone_before_leaves_what_it_wrote() {
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(b"a key").unwrap();
        drop(writer);
        let mut all = Vec::new();
        let mut pipe = opened(&reader, Duration::from_secs(60));
        pipe.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"a key");
    }
}
