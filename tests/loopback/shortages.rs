//! What a machine lacks is said to be lacking, and nothing else is blamed.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Stdio,
};

use p2pconnect::Endpoint;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::UdpSocket,
    process::Command,
    time::timeout,
};

use crate::{
    commands::{LIMIT, Shell},
    forger::Forger,
    serving::Serving,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_p2pconnect-under-test");

/// A user id that nothing on the machine has, so that its processes are those of a test.
const NOBODYS_ID: &str = "54321";

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
    for limit in 8..=32 {
        let limit = format!("--nofile={limit}:{limit}");
        let mut command = Command::new("prlimit");
        command.args([&limit, PROGRAM, "dial", "--no-port-mapping", &peer]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = shell.at_home(&mut command).spawn().unwrap();
        let output = timeout(LIMIT, child.wait_with_output()).await;
        let output = output.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => done += 1,
            Some(1 | 2) if said.to_lowercase().contains("open files") => failed += 1,
            other => panic!("{limit}: {other:?}: {said}"),
        }
    }
    assert!(failed >= 5 && done >= 5, "{failed} failed, {done} done");
    accepting.abort();
}

#[tokio::test]
async fn a_machine_that_gives_no_thread_is_said_to_be_that() {
    let directory = tempfile::tempdir().unwrap();
    // Root may have as many processes as it likes.
    let is_root = fs::metadata(directory.path()).unwrap().uid() == 0;
    let mut command = Command::new("prlimit");
    if is_root {
        let open = |path: &std::path::Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let program = directory.path().join("p2pconnect");
        fs::copy(PROGRAM, &program).unwrap();
        open(directory.path());
        open(&program);
        command.args(["--nproc=2", "setpriv", "--clear-groups"]);
        command.args(["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID]);
        command.arg(program);
    } else {
        command.args(["--nproc=1", PROGRAM]);
    }
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().unwrap();
    let output = timeout(LIMIT, child.wait_with_output()).await;
    let output = output.expect("the command hangs").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no more threads"), "{said}");
}

#[tokio::test]
async fn a_coordinator_with_little_memory_takes_fewer_clients_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("prlimit");
    command.args([
        "--as=671088640",
        PROGRAM,
        "serve",
        "--listen",
        "127.0.0.1:0",
    ]);
    command.args(["--stun", "127.0.0.1:0", "--key"]);
    command
        .arg(directory.path().join("key.pem"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let note = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("640 MiB of memory") {
                return line;
            }
        }
        panic!("it ended and said nothing of memory");
    };
    let note = timeout(LIMIT, note).await.unwrap();
    assert!(note.contains("room for 4608 clients"), "{note}");
    child.kill().await.unwrap();
}

/// Each of these datagrams made a coordinator keep 26 KiB for half a minute, which is more than it may have.
#[tokio::test]
async fn forged_attempts_do_not_end_a_coordinator_with_little_memory() {
    const FORGED: u32 = 6_000;

    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key.pem");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let plain = Serving::command(any, any, &key);
    let mut command = Command::new("prlimit");
    command
        .args(["--as=201326592", PROGRAM])
        .args(plain.as_std().get_args());
    command
        .env("RUST_LOG", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
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
