//! What a machine lacks is said to be lacking, and nothing else is blamed.

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use p2pconnect::{Connection, DialError, Endpoint};
use p2pconnect_tests::{forger::Forger, program::p2pconnect, serving::Serving};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UdpSocket,
    process::Command,
    task::JoinSet,
    time::timeout,
};

use crate::commands::{LIMIT, Shell};

/// How long a listener is dialled that may have no file left for the stream.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is said where there is no file left for a process.
const NO_FILES: &str = "as many open files as it may";

/// A user id that nothing on the machine has, so that its processes are those of a test.
const NOBODYS_ID: &str = "54321";

/// Fewer, and the system cannot load the program.
const FEWEST_FILES: u32 = 4;

/// Returns what runs a program that may have no more than a limit of prlimit(1) says.
fn limited(limit: &str, program: &OsStr) -> Command {
    let mut command = Command::new("prlimit");
    command
        .arg(limit)
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Returns the command under test, which may open so many files.
fn with_files(files: u32) -> Command {
    limited(&format!("--nofile={files}:{files}"), p2pconnect().as_ref())
}

/// A dial opens some 20 files: at one limit after the other, it stops at another one of them.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_file_is_one_too_many_the_limit_is_named() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let peer = listener.peer_id().to_string();
    let accepting = tokio::spawn(async move {
        while let Some(mut connection) = listener.accept().await {
            // A dialler that breaks off is what is tried here.
            tokio::spawn(async move {
                let mut all = Vec::new();
                if connection.read_to_end(&mut all).await.is_ok() {
                    drop(connection.finish().await);
                }
            });
        }
    });
    let (mut failed, mut done) = (0, 0);
    for limit in FEWEST_FILES..=32 {
        let mut command = with_files(limit);
        command.args(["dial", "--no-port-mapping", &peer]);
        let child = shell.at_home(&mut command).spawn().unwrap();
        let output = timeout(LIMIT, child.wait_with_output()).await;
        let output = output.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => done += 1,
            Some(1) if said.to_lowercase().contains("open files") => failed += 1,
            other => panic!("{limit}: {other:?}: {said}"),
        }
    }
    assert!(failed >= 5 && done >= 5, "{failed} failed, {done} done");
    accepting.abort();
}

#[tokio::test]
async fn a_coordinator_without_files_blames_no_port_and_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (mut failed, mut serving) = (0, 0);
    for limit in FEWEST_FILES..=16 {
        let key = directory.path().join(limit.to_string());
        let plain = Serving::command(any, any, &key);
        let mut command = with_files(limit);
        let mut child = command.args(plain.as_std().get_args()).spawn().unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(LIMIT, printed.next_line()).await.unwrap().unwrap();
        if first.is_some() {
            serving += 1;
            child.kill().await.unwrap();
            continue;
        }
        let output = timeout(LIMIT, child.wait_with_output()).await;
        let output = output.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{limit}: {said}");
        assert!(said.contains(NO_FILES), "{limit}: {said}");
        assert!(!said.contains("note: "), "{limit}: {said}");
        failed += 1;
    }
    assert!(failed >= 5 && serving >= 2, "{failed}, {serving} serve");
}

/// Dials a listener that may open so few files; returns whether the stream was whole, and what was
/// said.
async fn dial_one_with_few_files(shell: &Shell, limit: u32, key: &Path) -> (bool, String) {
    let mut command = with_files(limit);
    command.args(["listen", "--allow-any", "--no-port-mapping"]);
    shell.at_home(&mut command).env("P2PCONNECT_KEY", key);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    let dialler = shell.world.dialler().await;
    let mut is_whole = false;
    let listening = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            said.push_str(&line);
            said.push('\n');
            if line.contains("on the other machine") {
                let word = line.split(' ').skip_while(|it| *it != "dial").nth(1);
                let peer = word.unwrap().parse().unwrap();
                is_whole = has_whole_stream(dialler.dial_within(peer, PATIENCE).await).await;
            }
            if line.contains(NO_FILES) {
                return;
            }
        }
    };
    let listened = timeout(LIMIT, listening).await;
    assert!(listened.is_ok(), "{limit}: mute after {said}");
    (is_whole, said)
}

/// Ends a stream that was dialled, if there is one. The other end's stdin is at its end.
async fn has_whole_stream(dialled: Result<Connection, DialError>) -> bool {
    let Ok(mut here) = dialled else {
        return false;
    };
    here.shutdown().await.is_ok()
        && here.read_to_end(&mut Vec::new()).await.is_ok()
        && here.finish().await.is_ok()
}

#[tokio::test]
async fn a_listener_without_files_is_not_mute() {
    let shell = Arc::new(Shell::new());
    let directory = tempfile::tempdir().unwrap();
    let mut listeners = JoinSet::new();
    for limit in FEWEST_FILES..=24 {
        let key = directory.path().join(limit.to_string());
        let shell = Arc::clone(&shell);
        listeners.spawn(async move { dial_one_with_few_files(&shell, limit, &key).await });
    }
    let (mut failed, mut done) = (0, 0);
    for (is_whole, said) in listeners.join_all().await {
        assert!(is_whole || said.contains(NO_FILES), "{said}");
        assert!(!said.contains("the output"), "{said}");
        *(if is_whole { &mut done } else { &mut failed }) += 1;
    }
    assert!(failed >= 5 && done >= 3, "{failed} failed, {done} done");
}

#[tokio::test]
async fn a_machine_that_gives_no_thread_is_said_to_be_that() {
    let directory = tempfile::tempdir().unwrap();
    // Root may have as many processes as it likes.
    let is_root = fs::metadata(directory.path()).unwrap().uid() == 0;
    let mut command = if is_root {
        let open = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let program = directory.path().join("p2pconnect");
        fs::copy(p2pconnect(), &program).unwrap();
        open(directory.path());
        open(&program);
        let mut command = limited("--nproc=2", "setpriv".as_ref());
        command.args([
            "--clear-groups",
            "--reuid",
            NOBODYS_ID,
            "--regid",
            NOBODYS_ID,
        ]);
        command.arg(program);
        command
    } else {
        limited("--nproc=1", p2pconnect().as_ref())
    };
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let child = command.spawn().unwrap();
    let output = timeout(LIMIT, child.wait_with_output()).await;
    let output = output.expect("the command hangs").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no more threads"), "{said}");
}

/// Starts a coordinator by way of a command that may limit it, and returns what it says of its
/// memory.
async fn said_of_memory(mut command: Command) -> String {
    let directory = tempfile::tempdir().unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let plain = Serving::command(any, any, &directory.path().join("key.pem"));
    command.args(plain.as_std().get_args());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let note = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("MiB of memory") {
                return line;
            }
        }
        panic!("it ended and said nothing of memory");
    };
    let note = timeout(LIMIT, note).await.unwrap();
    child.kill().await.unwrap();
    note
}

#[tokio::test]
async fn a_coordinator_with_little_memory_takes_fewer_clients_and_says_so() {
    let note = said_of_memory(limited("--as=671088640", p2pconnect().as_ref())).await;
    assert!(note.contains("640 MiB of memory"), "{note}");
    assert!(note.contains("room for 4864 clients"), "{note}");
    let note = said_of_memory(limited("--data=671088640", p2pconnect().as_ref())).await;
    assert!(note.contains("640 MiB of memory"), "{note}");
}

/// A control group that is empty when it is dropped.
struct Group(PathBuf);

impl Group {
    /// Makes a group whose memory is limited to so many bytes. `None` where the system does not let
    /// this user.
    fn with_memory(bytes: u64) -> Option<Self> {
        let name = format!("p2pconnect-test-{}", std::process::id());
        let [v1, v2] = ["memory/", ""].map(|it| format!("/sys/fs/cgroup/{it}{name}"));
        let made = [(v1, "memory.limit_in_bytes"), (v2, "memory.max")]
            .into_iter()
            .find(|(group, _)| fs::create_dir(group).is_ok());
        let (group, file) = made?;
        let group = Self(group.into());
        let limited = fs::write(group.0.join(file), bytes.to_string());
        limited.is_ok().then_some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What is left is empty, and bears the number of a process that is gone.
        drop(fs::remove_dir(&self.0));
    }
}

/// Whatever version of control groups the system has, if the test may make one.
#[expect(
    clippy::print_stderr,
    reason = "whoever may make no control group is told that nothing was tried"
)]
#[tokio::test]
async fn a_coordinator_in_a_control_group_takes_what_that_bears() {
    let Some(group) = Group::with_memory(128 << 20) else {
        return eprintln!("not tried: no control group can be made here");
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo $$ > $0/cgroup.procs && exec \"$@\""])
        .arg(&group.0)
        .arg(p2pconnect())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let note = said_of_memory(command).await;
    assert!(note.contains("128 MiB of memory"), "{note}");
    assert!(note.contains("room for 768 clients"), "{note}");
}

/// Each of these datagrams made a coordinator keep 26 KiB for half a minute, which is more than it
/// may have.
#[tokio::test]
async fn forged_attempts_do_not_end_a_coordinator_with_little_memory() {
    const FORGED: u32 = 6_000;

    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key.pem");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let plain = Serving::command(any, any, &key);
    let mut command = limited("--as=201326592", p2pconnect().as_ref());
    command
        .args(plain.as_std().get_args())
        .env("RUST_LOG", "off");
    // What ends it is said where whoever runs the test reads it.
    command.stderr(Stdio::inherit());
    let mut serving = Serving::spawn(command, key).await;
    let target = (serving.coordinator.host.as_str(), serving.coordinator.port);
    let mut forger = Forger::new();
    let asking = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for n in 0..FORGED {
        let source = Ipv4Addr::from_bits(0x7f10_0000 + n);
        let source = UdpSocket::bind((source, 0)).await.unwrap();
        source.send_to(&forger.datagram(), target).await.unwrap();
        if n % 32 == 0 {
            // So that none is lost: a version that there is not is answered, in its turn.
            let mut question = forger.datagram();
            question[1..5].copy_from_slice(&[0x0a; 4]);
            asking.send_to(&question, target).await.unwrap();
            let answered = timeout(LIMIT, asking.recv(&mut [0; 1200])).await;
            answered.expect("it does not answer").unwrap();
        }
    }
    let honest = Endpoint::builder().coordinator(serving.coordinator.clone());
    let honest = timeout(LIMIT, honest.bind()).await.unwrap().unwrap();
    assert!(serving.child.try_wait().unwrap().is_none(), "it has ended");
    honest.close().await;
}
