//! `serve` in the hands of its operator: settings, and what changes while it serves.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use p2pconnect::{
    BindError, Builder, CoordinatorError, DialPolicy, Endpoint, InviteSecret, SecretKey,
};
use p2pconnect_tests::serving::Serving;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    commands::{LIMIT, program},
    journal::Log,
    world::World,
};

/// A server with a file of settings and a list of peers, and its log.
struct Operated {
    serving: Serving,
    log: Log,
    directory: PathBuf,
}

impl Operated {
    /// Starts it with these settings, which may name the files `peers` and `serve.toml` beside.
    async fn start(directory: &Path, settings: &str, options: &[&str]) -> Self {
        fs::write(directory.join("serve.toml"), settings).unwrap();
        let key = directory.join("key.pem");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut command = Serving::command(any, any, &key);
        command
            .args(["--config", "serve.toml"])
            .args(options)
            .current_dir(directory)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped());
        let mut serving = Serving::spawn(command, key).await;
        let log = Log::of(&mut serving);
        let directory = directory.to_owned();
        Self {
            serving,
            log,
            directory,
        }
    }

    /// Writes a file beside, and has the server read its settings again.
    async fn reload_with(&self, file: &str, text: &str) {
        fs::write(self.directory.join(file), text).unwrap();
        self.serving.signal("HUP").await;
    }

    fn builder(&self, key: &SecretKey) -> Builder {
        let key = SecretKey::from_pem(&key.to_pem()).unwrap();
        let builder = Endpoint::builder().secret_key(key);
        let builder = builder.coordinator(self.serving.coordinator.clone());
        builder.allow(DialPolicy::Anyone)
    }

    async fn bind(&self, key: &SecretKey) -> Result<Endpoint, BindError> {
        timeout(LIMIT, self.builder(key).bind()).await.unwrap()
    }

    async fn assert_is_not_served(&self, key: &SecretKey) {
        let error = self.bind(key).await.unwrap_err();
        let told = error.to_string();
        let is_told = told.contains("this coordinator does not serve this peer id");
        assert!(
            is_told && told.contains(&key.peer_id().to_string()),
            "{told}"
        );
        let BindError::Coordinator(CoordinatorError::NotServed { .. }) = error else {
            panic!("{error:?}");
        };
    }
}

#[tokio::test]
async fn a_list_of_peers_is_read_again_on_a_hang_up() {
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| SecretKey::generate().unwrap());
    let line = |key: &SecretKey| format!("{}  # a friend\n", key.peer_id());
    fs::write(directory.path().join("peers"), line(&one)).unwrap();
    let mut server = Operated::start(directory.path(), "allowed = \"peers\"", &[]).await;
    let served = server.bind(&one).await.unwrap();
    server.assert_is_not_served(&other).await;
    server
        .log
        .wait_for(&["peer is not served", &other.peer_id().to_string()])
        .await;

    server.reload_with("peers", &line(&other)).await;
    let told = "peers=1 added=1 removed=1 closed=1";
    server
        .log
        .wait_for(&["list of allowed peers is reloaded", told])
        .await;
    server.bind(&other).await.unwrap();
    server.assert_is_not_served(&one).await;
    served.close().await;

    // What is wrong changes nothing.
    server.reload_with("peers", "laptop\n").await;
    server
        .log
        .wait_for(&["nothing is reloaded", "peers: line 1: 'laptop'"])
        .await;
    server.bind(&other).await.unwrap();
    server.reload_with("serve.toml", "").await;
    server.log.wait_for(&["every peer is served"]).await;
    server.bind(&one).await.unwrap();
}

#[tokio::test]
async fn a_list_of_invite_secrets_is_read_again_on_a_hang_up() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = ("correct-horse-battery", "another-horse-battery");
    fs::write(directory.path().join("secrets"), old).unwrap();
    let options = ["--invite-secrets=secrets"];
    let mut server = Operated::start(directory.path(), "", &options).await;
    let key = SecretKey::generate().unwrap();
    server.assert_is_not_served(&key).await;
    let invited = |secret: &str| {
        let secret = InviteSecret::new(secret).unwrap();
        server.builder(&key).invite_secret(secret).bind()
    };
    timeout(LIMIT, invited(old)).await.unwrap().unwrap();
    let with_new = invited(new);

    fs::write(directory.path().join("guest"), format!("{new}\n")).unwrap();
    server.reload_with("secrets", new).await;
    server
        .log
        .wait_for(&["invite secrets are reloaded", "secrets=1"])
        .await;
    timeout(LIMIT, with_new).await.unwrap().unwrap();
    // By the command, which reads it from a file.
    let mut command = program();
    command
        .args(["dial", "--json", &key.peer_id().to_string()])
        .args(["--coordinator", &server.serving.coordinator.to_string()])
        .args(["--key", "guest.pem", "--invite-secret-file", "guest"])
        .current_dir(directory.path())
        .stdin(Stdio::null());
    let output = timeout(LIMIT, command.output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not online"), "{said}");
}

#[tokio::test]
async fn settings_are_read_again_on_a_hang_up_and_what_waits_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Operated::start(directory.path(), "", &[]).await;
    server.reload_with("serve.toml", "[limits]\npeer = 1").await;
    server
        .log
        .wait_for(&[
            "nothing is reloaded",
            "serve.toml: line 2",
            "`limits.peers`",
        ])
        .await;
    let key = SecretKey::generate().unwrap();
    let first = server.bind(&key).await.unwrap();

    let settings = "user = \"nobody\"\n[limits]\npeers = 1\nidle-timeout = \"60s\"";
    server.reload_with("serve.toml", settings).await;
    for setting in ["user", "limits.idle-timeout"] {
        server
            .log
            .wait_for(&[setting, "takes effect when this is started anew"])
            .await;
    }
    server
        .log
        .wait_for(&["limits.peers", "value=1", "before=16384", "line 3"])
        .await;
    server
        .log
        .wait_for(&["the settings are reloaded", "changed=1"])
        .await;
    let error = server
        .bind(&SecretKey::generate().unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    first.close().await;
}

#[tokio::test]
async fn what_is_logged_changes_on_a_hang_up() {
    let directory = tempfile::tempdir().unwrap();
    let settings = "[log]\nlevel = \"off\"";
    let mut server = Operated::start(directory.path(), settings, &[]).await;
    let key = SecretKey::generate().unwrap();
    server.bind(&key).await.unwrap().close().await;
    let settings = "[log]\nlevel = \"debug\"\nformat = \"json\"";
    server.reload_with("serve.toml", settings).await;
    let told = ["log.format", "takes effect when this is started anew"];
    server.log.wait_for(&told).await;
    server.log.wait_for(&["the settings are reloaded"]).await;
    let is_told = |it: &String| it.contains(&key.peer_id().to_string());
    assert!(
        !server.log.read.iter().any(is_told),
        "{:?}",
        server.log.read
    );
    let other = SecretKey::generate().unwrap();
    server.bind(&other).await.unwrap();
    let peer = other.peer_id().to_string();
    server
        .log
        .wait_for(&["client connected", "127.0.0.1", &peer])
        .await;
}

/// Returns the answer to a request for a page.
async fn page(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(LIMIT, stream.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn what_happens_is_counted_and_names_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let settings = "metrics = \"127.0.0.1:0\"";
    let server = Operated::start(directory.path(), settings, &[]).await;
    let metrics = server.serving.metrics.unwrap();
    for path in ["/healthz", "/readyz"] {
        let answer = page(metrics, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let [listener, dialler] = [(); 2].map(|()| SecretKey::generate().unwrap());
    let endpoint = server.bind(&listener).await.unwrap();
    let other = server.bind(&dialler).await.unwrap();
    World::connect(&other, &endpoint).await;
    let nobody = SecretKey::generate().unwrap().peer_id();
    other.dial(nobody).await.unwrap_err();

    let told = page(metrics, "/metrics").await;
    let value = |name: &str| {
        let line = told.lines().find_map(|it| it.strip_prefix(name));
        line.map(|it| it.trim().parse::<f64>().unwrap())
    };
    for (name, least) in [
        ("p2pconnect_connections{way=\"quic\"}", 2.0),
        ("p2pconnect_registered_peers", 2.0),
        ("p2pconnect_handshakes_total{outcome=\"succeeded\"}", 2.0),
        ("p2pconnect_introductions_total{event=\"made\"}", 1.0),
        (
            "p2pconnect_refusals_total{request=\"dial\",reason=\"unavailable\"}",
            1.0,
        ),
        ("p2pconnect_introduction_seconds_count", 1.0),
        ("p2pconnect_start_wait_seconds_count", 1.0),
        ("p2pconnect_relayed_bytes_total", 100.0),
        (
            "p2pconnect_stun_requests_total{server=\"stun\",transport=\"tcp\"}",
            1.0,
        ),
    ] {
        assert!(value(name).is_some_and(|it| it >= least), "{name}: {told}");
    }
    for user in [listener.peer_id(), dialler.peer_id(), nobody] {
        assert!(!told.contains(&user.to_string()), "{told}");
    }
    assert!(!told.contains("127.0.0.1:"), "{told}");
}

#[tokio::test]
async fn what_would_be_done_is_said_without_doing_it() {
    let directory = tempfile::tempdir().unwrap();
    let check = async |settings: &str, variable: &str| {
        fs::write(directory.path().join("serve.toml"), settings).unwrap();
        let mut command = program();
        command
            .args(["serve", "--check", "--config", "serve.toml", "--key=no.pem"])
            .current_dir(directory.path())
            .env("P2PCONNECT_SERVE_STUN", variable);
        let output = timeout(LIMIT, command.output()).await.unwrap().unwrap();
        let told = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        (output.status.code(), told)
    };
    let settings = "listen = \"127.0.0.1:4433\"\n[limits]\nconnections = 77\n";
    let (status, [told, said]) = check(settings, "127.0.0.1:3478").await;
    assert_eq!((status, said.as_str()), (Some(0), ""), "{told}");
    let line = |name: &str| told.lines().find(|it| it.starts_with(name)).unwrap();
    assert!(line("listen = \"127.0.0.1:4433\"").ends_with("# serve.toml, line 1"));
    assert!(line("stun = [\"127.0.0.1:3478\"]").ends_with("# P2PCONNECT_SERVE_STUN"));
    assert!(line("key = \"no.pem\"").ends_with("# --key"));
    assert!(line("limits.peers = 16384").ends_with("# default"));
    for done in [
        "as a new key, to be made in no.pem",
        "127.0.0.1:4433",
        "77 connections",
    ] {
        assert!(told.contains(done), "{done}: {told}");
    }
    assert!(!directory.path().join("no.pem").exists());

    // What nothing reads may be mistyped.
    let mut command = program();
    command
        .args(["serve", "--check", "--listen=127.0.0.1:1", "--key=no.pem"])
        .current_dir(directory.path())
        .env("P2PCONNECT_SERVE_LIMIT_PEERS", "5");
    let output = timeout(LIMIT, command.output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let nearest = "P2PCONNECT_SERVE_LIMIT_PEERS; the nearest is P2PCONNECT_SERVE_LIMITS_PEERS";
    assert!(said.contains(nearest), "{said}");

    let elsewhere = "192.0.2.1:3478";
    for (settings, variable, why) in [
        ("lisen = \"\"", "", "line 1: there is no setting `lisen`"),
        ("", elsewhere, "this machine has no such address"),
        ("allowed = \"nowhere\"", "", "nowhere: No such file"),
    ] {
        let (status, [_, said]) = check(settings, variable).await;
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
}
