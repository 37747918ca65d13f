//! What `serve` says of those who use it.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use p2pconnect::{DialError, DialPolicy, Endpoint, PeerId, SecretKey};
use p2pconnect_tests::serving::Serving;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::ChildStderr,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(20);

/// The log of a service, as far as it has been read.
pub(crate) struct Log {
    lines: Lines<BufReader<ChildStderr>>,
    pub(crate) read: Vec<String>,
}

impl Log {
    /// Takes the log of a service whose stderr is a pipe.
    pub(crate) fn of(serving: &mut Serving) -> Self {
        let lines = BufReader::new(serving.child.stderr.take().unwrap()).lines();
        let read = Vec::new();
        Self { lines, read }
    }

    /// Waits for a line that has all of these words.
    pub(crate) async fn wait_for(&mut self, words: &[&str]) {
        let search = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.read.push(line.clone());
                if words.iter().all(|word| line.contains(word)) {
                    return true;
                }
            }
            false
        };
        let found = timeout(LIMIT, search).await;
        assert!(matches!(found, Ok(true)), "no {words:?}: {:#?}", self.read);
    }
}

pub(crate) async fn endpoint(serving: &Serving, policy: Option<DialPolicy>) -> Endpoint {
    let builder = Endpoint::builder().coordinator(serving.coordinator.clone());
    match policy {
        Some(policy) => builder.allow(policy).bind().await.unwrap(),
        None => builder.bind().await.unwrap(),
    }
}

#[tokio::test]
async fn who_comes_dials_and_goes_is_said_and_from_where_is_not() {
    let read = log_of_dials("text").await;
    assert!(
        read.iter().any(|line| line.starts_with("note: ")),
        "{read:#?}"
    );
}

#[tokio::test]
async fn the_same_is_said_to_programs_in_one_object_a_line() {
    for line in log_of_dials("json").await {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
    }
}

/// Returns what a server logs in this form while peers come, dial and go, in which nothing says
/// from where.
async fn log_of_dials(format: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("coordinator.pem");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut command = Serving::command(any, any, &key);
    command.args(["--log", format]);
    // An empty variable is one that is not set.
    command.env("RUST_LOG", "").stderr(Stdio::piped());
    let mut serving = Serving::spawn(command, key).await;
    let mut log = Log::of(&mut serving);

    let listener = endpoint(&serving, Some(DialPolicy::Anyone)).await;
    let callee = listener.peer_id().to_string();
    log.wait_for(&["peer can be dialled", &callee]).await;

    let dialler = endpoint(&serving, None).await;
    let own_id = dialler.peer_id().to_string();
    let nobody: PeerId = SecretKey::generate().unwrap().peer_id();
    let error = dialler.dial(nobody).await.unwrap_err();
    assert!(matches!(error, DialError::Unavailable { .. }), "{error:?}");
    let nobody = nobody.to_string();
    log.wait_for(&["dial refused", &own_id, &nobody]).await;

    let (dialled, accepted) = tokio::join!(dialler.dial(listener.peer_id()), listener.accept());
    assert!(dialled.is_ok() && accepted.is_some());
    log.wait_for(&["peers are introduced", &own_id, &callee])
        .await;
    log.wait_for(&["dial is over", &own_id, &callee]).await;

    listener.close().await;
    log.wait_for(&["peer is gone", &callee]).await;
    for line in &log.read {
        assert!(!line.contains("127.0.0.1"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
    log.read
}
