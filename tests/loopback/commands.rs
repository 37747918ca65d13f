//! The command's ends: of the stream, of the process, and of its patience.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect::{DialError, DialPolicy, PeerId, SecretKey};
use p2pconnect_tests::{program::p2pconnect, serving::Serving};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{TcpListener, UdpSocket},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::world::World;

pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A world and a place for keys.
pub(crate) struct Shell {
    pub(crate) world: Arc<World>,
    keys: TempDir,
}

/// A running command.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    /// What was heard before what was waited for.
    heard: Vec<String>,
}

pub(crate) fn program() -> Command {
    // Whoever runs the tests with nohup has children that do not hear a hang-up either.
    let mut command = Command::new("env");
    command
        .arg("--default-signal=HUP")
        .arg(p2pconnect())
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self::of(World::start())
    }

    pub(crate) fn of(world: World) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let world = Arc::new(world);
        Self { world, keys }
    }

    /// Returns another machine of the same world.
    pub(crate) fn beside(other: &Self) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let world = Arc::clone(&other.world);
        Self { world, keys }
    }

    /// Returns where the key is, or will be.
    pub(crate) fn key(&self) -> PathBuf {
        self.keys.path().join("key.pem")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        self.at_home(command.args(arguments));
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Self::spawn(self.command(arguments))
    }

    pub(crate) fn spawn(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Running {
            child,
            lines,
            heard: Vec::new(),
        }
    }

    /// Gives a command the coordinator and the key of this machine.
    pub(crate) fn at_home<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("P2PCONNECT_COORDINATOR", self.world.address().to_string())
            .env("P2PCONNECT_KEY", self.key())
    }

    pub(crate) async fn id(&self) -> PeerId {
        let output = self.start(&["id"]).child.wait_with_output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim_end().parse().unwrap()
    }
}

impl Running {
    /// Waits for a line with these words, and returns it.
    pub(crate) async fn wait_for(&mut self, words: &str) -> String {
        let heard = &mut self.heard;
        let search = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                heard.push(line);
                if heard.last().is_some_and(|line| line.contains(words)) {
                    return true;
                }
            }
            false
        };
        let found = timeout(LIMIT, search).await;
        assert!(matches!(found, Ok(true)), "no {words}: {heard:#?}");
        heard.pop().unwrap_or_default()
    }

    pub(crate) async fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id().unwrap());
        let sent = Command::new("sh").args(["-c", &kill]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Stops the process, and returns when none of its threads runs any more.
    pub(crate) async fn stop(&self) {
        self.signal("STOP").await;
        let tasks = format!("/proc/{}/task", self.child.id().unwrap());
        let is_stopped = |task: PathBuf| {
            let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
            // A thread that has ended meanwhile has no status.
            status.is_empty() || status.contains("State:\tT")
        };
        let stopped = async {
            let mut pause = tokio::time::interval(Duration::from_millis(1));
            loop {
                let mut tasks = std::fs::read_dir(&tasks).unwrap();
                if tasks.all(|task| is_stopped(task.unwrap().path())) {
                    return;
                }
                pause.tick().await;
            }
        };
        timeout(LIMIT, stopped).await.unwrap();
    }

    /// Returns the exit status and the rest of stderr.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        let rest = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                said.push_str(&line);
                said.push('\n');
            }
        };
        timeout(LIMIT, rest).await.unwrap();
        (self.child.wait().await.unwrap(), said)
    }
}

#[tokio::test]
async fn stdout_ends_with_the_peers_bytes_though_stdin_goes_on() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let mut dial = shell.start(&["dial", &listener.peer_id().to_string()]);
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    there.write_all(b"all there is").await.unwrap();
    there.shutdown().await.unwrap();

    let mut heard = Vec::new();
    let mut stdout = dial.child.stdout.take().unwrap();
    let reading = timeout(LIMIT, stdout.read_to_end(&mut heard)).await;
    assert!(reading.is_ok(), "stdout stays open");
    assert_eq!(heard, b"all there is");

    let mut stdin = dial.child.stdin.take().unwrap();
    stdin.write_all(b"and an answer").await.unwrap();
    drop(stdin);
    let mut answer = Vec::new();
    there.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"and an answer");
    let (finished, (status, said)) = tokio::join!(there.finish(), dial.end());
    finished.unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[tokio::test]
async fn last_words_before_a_hang_up_arrive() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let mut dial = shell.start(&["dial", &listener.peer_id().to_string()]);
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    dial.wait_for("direct stream").await;
    let mut stdin = dial.child.stdin.take().unwrap();
    stdin.write_all(b"goodbye").await.unwrap();
    drop(stdin);
    dial.signal("HUP").await;
    let mut heard = Vec::new();
    there.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"goodbye");
    let (finished, (status, said)) = tokio::join!(there.finish(), dial.end());
    finished.unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[tokio::test]
async fn a_hang_up_ends_a_stream_that_would_go_on() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let mut dial = shell.start(&["dial", &listener.peer_id().to_string()]);
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    dial.wait_for("direct stream").await;
    let _stdin = dial.child.stdin.take();
    dial.signal("HUP").await;
    let (status, said) = dial.end().await;
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(there.read_to_end(&mut Vec::new()).await.is_err());
}

#[tokio::test]
async fn a_peer_that_goes_away_in_mid_stream_is_status_1() {
    let shell = Shell::new();
    let listener = shell.world.listener().await;
    let dial = shell.start(&["dial", &listener.peer_id().to_string()]);
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    there.write_all(b"half a mess").await.unwrap();
    there.flush().await.unwrap();
    drop(there);
    let (status, said) = dial.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("went away before the end"), "{said}");
}

#[tokio::test]
async fn a_service_that_is_told_to_end_is_done_and_gone_at_once() {
    let shell = Shell::new();
    let peer = shell.id().await;
    let dialler = shell.world.dialler().await;
    for signal in ["INT", "TERM", "HUP"] {
        let options = ["listen", "--allow-any", "--forward", "127.0.0.1:9"];
        let mut listen = shell.start(&options);
        listen.wait_for("can be dialled").await;
        listen.signal(signal).await;
        let (status, said) = listen.end().await;
        assert_eq!(status.code(), Some(0), "{signal}: {said}");
        let error = dialler.dial(peer).await.unwrap_err();
        assert!(
            matches!(error, DialError::Unavailable { .. }),
            "{signal}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_is_interrupted_is_not_done() {
    let shell = Shell::new();
    let peer = shell.id().await;
    let mut listen = shell.start(&["listen", "--allow-any"]);
    listen.wait_for("can be dialled").await;
    let dialler = shell.world.dialler().await;
    let _here = dialler.dial(peer).await.unwrap();
    listen.wait_for("direct stream").await;
    listen.signal("INT").await;
    let (status, said) = listen.end().await;
    assert_eq!(status.code(), Some(130), "{said}");
}

#[tokio::test]
async fn once_is_status_1_when_the_stream_could_not_be_forwarded() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = closed.local_addr().unwrap().to_string();
    drop(closed);
    let shell = Shell::new();
    let peer = shell.id().await;
    let options = ["listen", "--allow-any", "--once", "--forward", &target];
    let mut listen = shell.start(&options);
    listen.wait_for("can be dialled").await;
    let dialler = shell.world.dialler().await;
    let _here = dialler.dial(peer).await.unwrap();
    let (status, said) = listen.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&target), "{said}");
}

#[tokio::test]
async fn the_older_of_two_listeners_with_one_key_ends() {
    let shell = Shell::new();
    let mut older = shell.start(&["listen", "--allow-any"]);
    older.wait_for("can be dialled").await;
    let mut newer = shell.start(&["listen", "--allow-any"]);
    newer.wait_for("can be dialled").await;
    let (status, said) = older.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("with the same key"), "{said}");
    assert!(said.contains("give each its own with --key"), "{said}");
}

#[tokio::test]
async fn a_peer_that_has_gone_without_a_word_is_called_silent() {
    let shell = Shell::new();
    let id = shell.id().await;
    let mut listen = shell.start(&["listen", "--allow-any"]);
    listen.wait_for("can be dialled").await;
    let dialler = shell.world.dialler().await;
    // Its sockets stay, and nobody reads them, as on a machine that was unplugged.
    listen.stop().await;
    let error = timeout(LIMIT, dialler.dial(id)).await.unwrap().unwrap_err();
    assert!(matches!(error, DialError::PeerSilent(_)), "{error:?}");
    listen.signal("KILL").await;
}

#[tokio::test]
async fn a_listener_says_what_the_other_side_types() {
    let shell = Shell::new();
    let id = shell.id().await;
    let mut listen = shell.start(&["listen", "--allow-any"]);
    let command = format!(
        "p2pconnect dial {id} --coordinator {}",
        shell.world.address()
    );
    listen.wait_for(&command).await;
}

#[tokio::test]
async fn nothing_is_said_over_a_stream_and_nothing_held_that_it_does_not_need() {
    let mut shell = Shell::new();
    let listener = shell.world.listener().await;
    let held = shell.world.stun_connections();
    let mut dial = shell.start(&["dial", &listener.peer_id().to_string()]);
    let mut there = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    dial.wait_for("direct stream").await;
    let released = async {
        while shell.world.stun_connections() > held {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, released)
        .await
        .expect("STUN connections are kept");
    // The stream has to live on, and the command to hear nothing of this.
    let world = Arc::get_mut(&mut shell.world).unwrap();
    world.restart_coordinator().await;
    there.write_all(b"all there is").await.unwrap();
    drop(dial.child.stdin.take());
    let hearing = async {
        there.shutdown().await.unwrap();
        there.read_to_end(&mut Vec::new()).await.unwrap();
        there.finish().await.unwrap();
    };
    let ((), (status, said)) = tokio::join!(hearing, dial.end());
    assert!(status.success(), "{said}");
    assert_eq!(said, "");
}

#[tokio::test]
async fn a_listener_that_starts_before_its_coordinator_is_dialable_in_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(directory.path()).await;
    serving.kill().await;
    let shell = Shell::new();
    let coordinator = serving.coordinator.to_string();
    let options = ["listen", "--allow-any", "--coordinator", &coordinator];
    let mut listen = shell.start(&options);
    listen
        .wait_for("waiting: the coordinator at 127.0.0.1:")
        .await;
    serving.restart().await;
    listen.wait_for("can be dialled").await;
}

#[tokio::test]
async fn a_dial_may_wait_for_its_peer() {
    let shell = Shell::new();
    let key = SecretKey::generate().unwrap();
    let peer = key.peer_id().to_string();
    let mut dial = shell.start(&["dial", "--wait", &peer]);
    dial.wait_for("waiting:").await;
    let listener = shell.world.builder().secret_key(key);
    let listener = listener.allow(DialPolicy::Anyone).bind().await.unwrap();
    drop(timeout(LIMIT, listener.accept()).await.unwrap().unwrap());
    let before = dial.heard.join("\n");
    let (_, said) = dial.end().await;
    assert!(said.contains("direct stream"), "{said}");
    // All attempts have the same ports, and the first one alone says so, late perhaps.
    let all = format!("{before}\n{said}");
    let mapped = all.lines().filter(|it| it.contains("is seen as"));
    let mapped: Vec<_> = mapped.filter_map(|it| it.split("] ").nth(1)).collect();
    let different: BTreeSet<_> = mapped.iter().collect();
    assert_eq!(different.len(), mapped.len(), "{all}");
}

#[tokio::test]
async fn a_dial_waits_for_as_long_as_it_is_told_to_and_says_so() {
    let shell = Shell::new();
    let nobody = SecretKey::generate().unwrap().peer_id().to_string();
    let began = Instant::now();
    let (status, said) = shell
        .start(&["dial", "--wait", "700ms", &nobody])
        .end()
        .await;
    assert!(began.elapsed() >= Duration::from_millis(700), "{said}");
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("waited for 700ms"), "{said}");
}

#[tokio::test]
async fn a_dial_waits_no_longer_than_it_is_told_to_though_nobody_answers() {
    let shell = Shell::new();
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut address = shell.world.address();
    address.port = silent.local_addr().unwrap().port();
    let at = format!("--coordinator={address}");
    let nobody = SecretKey::generate().unwrap().peer_id().to_string();
    let began = Instant::now();
    let dial = shell.start(&["dial", "--wait=500ms", &nobody, &at]);
    let (status, said) = dial.end().await;
    assert_eq!(status.code(), Some(6), "{said}");
    assert!(said.contains("waited for 500ms"), "{said}");
    assert_eq!(said.matches("is it running").count(), 1, "{said}");
    // At once, whom it waits for.
    let told = format!("waiting for {nobody}, 500ms at most");
    let place = said.find(&told);
    assert!(place < said.find("failed") && place.is_some(), "{said}");
    // An attempt takes five seconds, if it is let.
    assert!(began.elapsed() < Duration::from_millis(4500), "{said}");
}

/// A second is enough for several questions, unless the machine is very slow.
#[tokio::test]
async fn a_short_dial_asks_a_busy_peer_again() {
    let shell = Shell::new();
    let id = shell.id().await;
    let mut listen = shell.start(&["listen", "--allow-any"]);
    listen.wait_for("can be dialled").await;
    let dialler = shell.world.dialler().await;
    let _first = dialler.dial(id).await.unwrap();
    let other = Shell::beside(&shell);
    let id = id.to_string();
    for _ in 0..10 {
        let dial = other.start(&["dial", "--json", "--timeout", "1s", &id]);
        let (status, said) = dial.end().await;
        assert_eq!(status.code(), Some(5), "{said}");
        if said.matches("\"introduced\"").count() > 1 {
            return;
        }
    }
    panic!("it is asked once");
}

#[tokio::test]
async fn the_second_dial_of_a_listener_with_one_stream_is_status_5() {
    let shell = Shell::new();
    let id = shell.id().await;
    let _listen = shell.start(&["listen", "--allow-any"]);
    let dialler = shell.world.dialler().await;
    let first = async {
        loop {
            if let Ok(connection) = dialler.dial(id).await {
                return connection;
            }
        }
    };
    let _first = timeout(LIMIT, first).await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("other.pem");
    let options = ["dial", "--timeout", "3s", "--key", key.to_str().unwrap()];
    let id = id.to_string();
    let dial = |more: &[&str]| shell.start(&[&options[..], more, &[&id]].concat()).end();
    let (status, said) = dial(&[]).await;
    assert_eq!(status.code(), Some(5), "{said}");
    assert!(!said.contains("direct stream"), "{said}");
    // It is told at once, and once, although the peer is asked several times.
    for once in ["asking again", "introduces", "connecting to"] {
        assert_eq!(said.matches(once).count(), 1, "{once}: {said}");
    }
    assert!(said.contains("for 3s, and a longer --timeout"), "{said}");
    // What is left of the time for a peer that is not there bounds this as well.
    let (status, said) = dial(&["--wait=2s"]).await;
    assert_eq!(status.code(), Some(5), "{said}");
    assert!(said.contains("for 2s, and a longer --wait"), "{said}");
    let (status, said) = dial(&["--json"]).await;
    assert_eq!(status.code(), Some(5), "{said}");
    assert_eq!(said.matches("\"busy\"").count(), 1, "{said}");
    assert!(said.matches("\"introduced\"").count() > 1, "{said}");
}

/// Whoever knows the token that belongs to a connection can end it (RFC 9000 section 10.3).
#[tokio::test]
async fn no_log_has_the_tokens_that_end_a_connection() {
    let shell = Shell::new();
    let nobody = SecretKey::generate().unwrap().peer_id().to_string();
    let mut command = shell.command(&["dial", &nobody]);
    let child = command.env("RUST_LOG", "trace").spawn().unwrap();
    let output = timeout(LIMIT, child.wait_with_output()).await.unwrap();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(said.contains(" TRACE "), "nothing was traced");
    assert!(!said.to_lowercase().contains("resettoken"), "{said}");
}
