//! A stream takes no more memory the more bytes it carries.

use std::fs;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::commands::Shell;

const MIB: usize = 1024 * 1024;

/// What is carried each way before the first look, so that all buffers are there.
const FIRST: usize = 64 * MIB;

/// What is carried each way after it.
const MORE: usize = 512 * MIB;

/// What an allocator may keep back or give away meanwhile.
const SLACK: u64 = 4 * MIB as u64;

#[tokio::test]
async fn a_command_does_not_grow_with_the_bytes_it_carries() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let mut dial = shell.start(&["dial", &listener.peer_id().to_string()]);
    let there = listener.accept().await.unwrap();
    let (mut from_there, mut to_there) = tokio::io::split(there);
    let mut stdin = dial.child.stdin.take().unwrap();
    let mut stdout = dial.child.stdout.take().unwrap();
    let status = format!("/proc/{}/status", dial.child.id().unwrap());

    carry(&mut stdin, &mut from_there, FIRST).await;
    carry(&mut to_there, &mut stdout, FIRST).await;
    let before = peak(&status);
    carry(&mut stdin, &mut from_there, MORE).await;
    carry(&mut to_there, &mut stdout, MORE).await;
    let after = peak(&status);
    assert!(
        after <= before + SLACK,
        "{before} bytes at most after {FIRST} each way, {after} after {MORE} more"
    );
}

/// Writes zeros to one end and reads them at the other.
async fn carry(
    to: &mut (impl AsyncWrite + Unpin),
    from: &mut (impl AsyncRead + Unpin),
    bytes: usize,
) {
    let chunk = vec![0; MIB];
    let sending = async {
        for _ in 0..bytes / MIB {
            to.write_all(&chunk).await.unwrap();
        }
        to.flush().await.unwrap();
    };
    let receiving = async {
        let mut buffer = vec![0; MIB];
        let mut left = bytes;
        while left > 0 {
            let room = left.min(buffer.len());
            let read = from.read(&mut buffer[..room]).await.unwrap();
            assert!(read > 0, "{left} bytes are missing");
            left -= read;
        }
    };
    tokio::join!(sending, receiving);
}

/// Returns the most memory that the process has had, in bytes (proc_pid_status(5)).
fn peak(status: &str) -> u64 {
    let status = fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().strip_suffix("kB").unwrap();
    kib.trim().parse::<u64>().unwrap() * 1024
}
