//! A log whose reader has stopped to read holds nobody up.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
    time::Duration,
};

use p2pconnect::{DialPolicy, Endpoint, SecretKey};
use p2pconnect_tests::serving::Serving;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
    task::spawn_blocking,
    time::timeout,
};

use crate::commands::{Shell, program};

const LIMIT: Duration = Duration::from_secs(20);

/// How often what is logged happens: more often than there are threads that could wait.
const TIMES: usize = 8;

/// A log that is full, and its reader, who does not read.
struct Stalled {
    reader: UnixStream,
    /// How much was in it before.
    filled: usize,
}

impl Stalled {
    /// Gives a command a stderr that takes no more.
    fn give_to(command: &mut Command) -> Self {
        let (reader, mut writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut filled = 0;
        loop {
            match writer.write(&[b'.'; 4096]) {
                Ok(written) => filled += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        // As a pipe from a shell is.
        writer.set_nonblocking(false).unwrap();
        command.stderr(OwnedFd::from(writer));
        Self { reader, filled }
    }

    /// Reads on, until some line has these words.
    async fn read_until(mut self, words: &'static str) {
        self.reader.set_read_timeout(Some(LIMIT)).unwrap();
        let reading = spawn_blocking(move || {
            self.reader.read_exact(&mut vec![0; self.filled]).unwrap();
            let mut said = Vec::new();
            while !String::from_utf8_lossy(&said).contains(words) {
                let mut chunk = [0; 4096];
                let read = self.reader.read(&mut chunk).unwrap();
                assert!(read > 0, "{}", String::from_utf8_lossy(&said));
                said.extend_from_slice(&chunk[..read]);
            }
        });
        reading.await.unwrap();
    }
}

#[tokio::test]
async fn a_coordinator_whose_log_nobody_reads_serves_on() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("coordinator.pem");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut command = Serving::command(any, any, &key);
    let stalled = Stalled::give_to(command.env("RUST_LOG", "info"));
    let mut serving = timeout(LIMIT, Serving::spawn(command, key)).await.unwrap();
    for _ in 0..TIMES {
        let builder = || Endpoint::builder().coordinator(serving.coordinator.clone());
        let listening = builder().allow(DialPolicy::Anyone).bind();
        let listener = timeout(LIMIT, listening).await.unwrap().unwrap();
        let dialler = timeout(LIMIT, builder().bind()).await.unwrap().unwrap();
        let dialling = dialler.dial(listener.peer_id());
        let (dialled, accepted) =
            timeout(LIMIT, async { tokio::join!(dialling, listener.accept()) })
                .await
                .unwrap();
        assert!(dialled.is_ok() && accepted.is_some());
        dialler.close().await;
        listener.close().await;
    }
    assert!(serving.child.try_wait().unwrap().is_none());
    stalled.read_until("peer can be dialled").await;
}

#[tokio::test]
async fn a_listener_whose_log_nobody_reads_carries_on() {
    let shell = Shell::new();
    let key = SecretKey::generate().unwrap();
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), &*key.to_pem()).unwrap();
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = service.local_addr().unwrap().to_string();
    let mut command = program();
    command.args(["listen", "-v", "--allow-any", "--forward", &target]);
    shell
        .at_home(&mut command)
        .env("P2PCONNECT_KEY", path.path())
        .stdout(Stdio::null());
    let stalled = Stalled::give_to(&mut command);
    let mut listen = command.spawn().unwrap();
    drop(command);
    let dialler = shell.world.dialler().await;
    for _ in 0..TIMES {
        let carrying = async {
            let mut here = loop {
                // It may not be there yet.
                if let Ok(connection) = dialler.dial(key.peer_id()).await {
                    break connection;
                }
            };
            let (mut there, _) = service.accept().await.unwrap();
            here.write_all(b"word").await.unwrap();
            there.read_exact(&mut [0; 4]).await.unwrap();
            drop(there);
            drop(here);
        };
        timeout(LIMIT, carrying).await.unwrap();
    }
    assert!(listen.try_wait().unwrap().is_none());
    stalled.read_until("direct stream").await;
}
