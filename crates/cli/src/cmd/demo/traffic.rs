//! Sends random bytes through the demo's stream, and checks that they arrive.

use std::{
    io::{Read, Write},
    process::{ChildStdin, ChildStdout},
    thread::{JoinHandle, spawn},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// One MiB at a time keeps the number of system calls small.
const CHUNK: usize = 1 << 20;

/// What one side sent or received.
pub(super) struct Sum {
    pub(super) sha256: String,
    pub(super) bytes: u64,
    pub(super) took: Duration,
}

/// Random bytes on their way into one peer and out of it.
pub(super) struct Transfer {
    sending: JoinHandle<anyhow::Result<Sum>>,
    receiving: JoinHandle<anyhow::Result<Sum>>,
}

impl Transfer {
    /// Sends `mib` MiB of random bytes into `input`, and takes in what `output` has.
    pub(super) fn start(input: ChildStdin, output: ChildStdout, mib: u32) -> Self {
        Self {
            sending: spawn(move || send_random(input, mib)),
            receiving: spawn(move || receive(output)),
        }
    }

    /// Waits for both directions: what was sent, and what was received.
    pub(super) fn finish(self) -> anyhow::Result<(Sum, Sum)> {
        let join = |thread: JoinHandle<anyhow::Result<Sum>>| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a transfer stopped unexpectedly"))?
        };
        Ok((join(self.sending)?, join(self.receiving)?))
    }
}

fn send_random(mut input: impl Write, mib: u32) -> anyhow::Result<Sum> {
    let began = Instant::now();
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    for _ in 0..mib {
        getrandom::fill(&mut chunk).context("no randomness from the system")?;
        hash.update(&chunk);
        input
            .write_all(&chunk)
            .context("the peer takes no more bytes")?;
    }
    Ok(Sum::new(hash, u64::from(mib) * CHUNK as u64, began))
}

fn receive(mut output: impl Read) -> anyhow::Result<Sum> {
    let began = Instant::now();
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = output
            .read(&mut chunk)
            .context("the peer's output cannot be read")?;
        if read == 0 {
            return Ok(Sum::new(hash, bytes, began));
        }
        hash.update(&chunk[..read]);
        bytes += read as u64;
    }
}

impl Sum {
    fn new(hash: Sha256, bytes: u64, began: Instant) -> Self {
        let sha256 = HEXLOWER.encode(&hash.finalize());
        Self {
            sha256,
            bytes,
            took: began.elapsed(),
        }
    }
}
