//! Ending the programs of a lab together with it.
//!
//! Programs write their process number into a pipe before they start. Should the process that built
//! the lab end, the PID namespace ends them all; this is for a lab that is dropped while its
//! process goes on.
#![expect(unsafe_code, reason = "signals to processes are system calls")]

use std::{
    io::{self, PipeReader, PipeWriter, Read as _},
    os::fd::AsRawFd as _,
    sync::Arc,
};

use crate::error::Error;

/// Where programs enter their process number.
#[derive(Debug, Clone)]
pub(super) struct Enrolment {
    pipe: Arc<PipeWriter>,
}

impl Enrolment {
    /// Enters the number of the calling process; safe between fork and exec.
    pub(super) fn enrol(&self) -> io::Result<()> {
        // SAFETY: no pointers; this cannot fail.
        let bytes = unsafe { libc::getpid() }.to_ne_bytes();
        // SAFETY: the pointer and length describe `bytes`, alive for the call.
        let written =
            unsafe { libc::write(self.pipe.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        if written < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// Kills the programs that enrolled.
#[derive(Debug)]
pub(super) struct Reaper {
    pipe: PipeReader,
}

/// Makes a reaper and the list it works from.
pub(super) fn reaper() -> Result<(Reaper, Enrolment), Error> {
    let system = |source| Error::System {
        action: "make a pipe".into(),
        source,
    };
    let (reader, writer) = io::pipe().map_err(system)?;
    for descriptor in [reader.as_raw_fd(), writer.as_raw_fd()] {
        // A list that is full (16,384 programs) refuses the next program instead of blocking it,
        // and an empty one ends the reaper's reading. SAFETY: no pointers; the descriptors are
        // open.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
            return Err(Error::system("configure a pipe"));
        }
    }
    Ok((
        Reaper { pipe: reader },
        Enrolment {
            pipe: Arc::new(writer),
        },
    ))
}

impl Reaper {
    /// Kills every program that has enrolled so far.
    ///
    /// Numbers are those of our own PID namespace, so nothing else can be hit; a number comes up
    /// again only after as many processes as the system allows at once.
    pub(super) fn kill_all(&mut self) {
        let mut number = [0; 4];
        while self.pipe.read_exact(&mut number).is_ok() {
            // SAFETY: no pointers. A process that is gone already is no error.
            unsafe { libc::kill(libc::pid_t::from_ne_bytes(number), libc::SIGKILL) };
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.kill_all();
    }
}
