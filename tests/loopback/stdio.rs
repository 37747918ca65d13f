//! Standard streams that somebody else has made non-blocking.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::spawn_blocking,
    time::timeout,
};

use crate::commands::{Shell, program};

const LIMIT: Duration = Duration::from_secs(20);

/// More than a socket holds.
const MUCH: usize = 1_000_000;

/// Returns an open file that somebody has made non-blocking, for a program, and its other end.
fn non_blocking() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    // A reader that has nothing to read any more fails, instead of the suite's hanging.
    ours.set_read_timeout(Some(LIMIT)).unwrap();
    (ours, theirs)
}

fn given(file: &UnixStream) -> Stdio {
    OwnedFd::from(file.try_clone().unwrap()).into()
}

/// Reads the flags of an open file, which all who have it share (proc_pid_fdinfo(5)).
fn is_non_blocking(file: &UnixStream) -> bool {
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let info = std::fs::read_to_string(path).unwrap();
    let flags = info.lines().find_map(|it| it.strip_prefix("flags:"));
    let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
    flags & 0o4000 != 0
}

/// Fills a file until it takes no more; returns how much that was.
fn fill(mut file: &UnixStream) -> usize {
    let mut filled = 0;
    loop {
        match file.write(&[b'.'; 4096]) {
            Ok(written) => filled += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return filled,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads what a file was filled with, and then up to the end of a line. Gives a program that does
/// not wait for a reader the time to fail before.
fn line_behind(mut file: UnixStream, filled: usize) -> String {
    std::thread::sleep(Duration::from_millis(500));
    file.read_exact(&mut vec![0; filled]).unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        file.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    String::from_utf8(line).unwrap()
}

#[tokio::test]
async fn a_stream_on_non_blocking_files_is_whole() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let (mut input, stdin) = non_blocking();
    let (mut output, stdout) = non_blocking();
    let (_errors, stderr) = non_blocking();
    let mut command = shell.command(&["dial", &listener.peer_id().to_string()]);
    command.stdin(given(&stdin)).stdout(given(&stdout));
    let mut dial = command.stderr(given(&stderr)).spawn().unwrap();
    drop(command);
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    // Nobody reads until everything is under way, and nothing is there to be read at first.
    there.write_all(&[7; MUCH / 4]).await.unwrap();
    let (mut from_dial, mut to_dial) = tokio::io::split(there);
    let answering = tokio::spawn(async move {
        to_dial.write_all(&[7; 3 * MUCH / 4]).await.unwrap();
        to_dial.shutdown().await.unwrap();
        to_dial
    });
    let mut heard = vec![0; MUCH];
    let hearing = spawn_blocking(move || output.read_exact(&mut heard).map(|()| heard));
    assert!(hearing.await.unwrap().unwrap().iter().all(|it| *it == 7));
    let asking = spawn_blocking(move || {
        input.write_all(&[8; MUCH]).unwrap();
        input.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut asked = Vec::new();
    from_dial.read_to_end(&mut asked).await.unwrap();
    asking.await.unwrap();
    assert_eq!(asked.len(), MUCH);
    let there = from_dial.unsplit(answering.await.unwrap());
    there.finish().await.unwrap();
    let status = timeout(LIMIT, dial.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    for file in [&stdin, &stdout, &stderr] {
        assert!(is_non_blocking(file), "the flag is not this program's");
    }
}

#[tokio::test]
async fn what_happens_is_said_though_stderr_is_full_for_a_while() {
    let shell = Shell::new();
    let (errors, stderr) = non_blocking();
    let filled = fill(&stderr);
    let mut command = shell.command(&["listen", "--json", "--allow-any"]);
    let _listen = command.stderr(given(&stderr)).spawn().unwrap();
    let line = spawn_blocking(move || line_behind(errors, filled));
    let line: serde_json::Value = serde_json::from_str(&line.await.unwrap()).unwrap();
    assert_eq!(line["event"], "key-made", "the first event is lost");
    assert!(is_non_blocking(&stderr), "the flag is not this program's");
}

#[tokio::test]
async fn a_coordinator_and_an_id_are_printed_though_stdout_is_full_for_a_while() {
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key").display().to_string();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0"];
    for (arguments, wanted) in [(&serve[..], "coordinator: "), (&["id"], "")] {
        let (output, stdout) = non_blocking();
        let filled = fill(&stdout);
        let mut command = program();
        command.args(arguments).args(["--key", &key]);
        let _running = command.stdout(given(&stdout)).spawn().unwrap();
        let line = spawn_blocking(move || line_behind(output, filled));
        let line = line.await.unwrap();
        assert!(line.starts_with(wanted) && line.len() > 52, "{line}");
    }
}
