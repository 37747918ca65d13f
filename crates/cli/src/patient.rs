//! Files whose reads and writes wait, also where somebody has made them non-blocking.

use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

/// A file whose reads and writes wait, though it may be non-blocking.
#[derive(Debug)]
pub(crate) struct Patient<F>(pub(crate) F);

impl<F: AsFd> Patient<F> {
    fn wait(&self, event: PollFlags) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.0, event)], None) {
            // What is wrong with the file, reading or writing tells.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl<F: AsFd> Read for Patient<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.0, &mut *buf) {
                Ok(read) => return Ok(read),
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<F: AsFd> Write for Patient<F> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.0, buf) {
                Ok(written) => return Ok(written),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
