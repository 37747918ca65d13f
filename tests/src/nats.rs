//! Servers of NATS as child processes, on free ports of the loopback interface.

use std::{
    fs::{self, File},
    io,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

/// How long one may take to start. It takes some milliseconds on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How often to look whether it has started.
const START_POLL: Duration = Duration::from_millis(10);

/// The settings of each: how soon one notices that another is gone without a word.
const SETTINGS: &str = "ping_interval: \"1s\"\n";

/// A server of NATS, which ends with this value.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    options: Vec<String>,
    directory: TempDir,
    client: String,
    cluster: String,
}

impl NatsServer {
    /// Starts a server with these options, and returns when it serves.
    pub async fn start(options: &[&str]) -> Self {
        let options = options.iter().map(|it| (*it).to_owned()).collect();
        Self::at(options, "-1", "-1").await
    }

    /// Starts so many servers that know each other.
    pub async fn cluster(number: usize) -> Vec<Self> {
        let mut servers: Vec<Self> = Vec::new();
        while servers.len() < number {
            let routes: Vec<_> = servers.iter().map(|it| it.cluster.clone()).collect();
            let routes = routes.join(",");
            let options = match servers.is_empty() {
                true => vec![],
                false => vec!["--routes", &routes],
            };
            servers.push(Self::start(&options).await);
        }
        servers
    }

    /// Returns where clients find it.
    pub fn url(&self) -> String {
        self.client.clone()
    }

    /// Returns where clients find it that show this in front of the host.
    pub fn url_as(&self, login: &str) -> String {
        self.client.replace("://", &format!("://{login}@"))
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts another one on the same ports, and returns when it serves.
    pub async fn restart(&mut self) {
        let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
        let (client, cluster) = (port(&self.client), port(&self.cluster));
        *self = Self::at(self.options.clone(), &client, &cluster).await;
    }

    /// Starts another one on the same ports with these options, and returns when it serves.
    pub async fn restart_with(&mut self, options: &[&str]) {
        self.options = options.iter().map(|it| (*it).to_owned()).collect();
        self.restart().await;
    }

    async fn at(options: Vec<String>, client: &str, cluster: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        fs::write(file("settings"), SETTINGS).unwrap();
        let log = File::create(file("log")).unwrap();
        let child = Command::new("/usr/sbin/nats-server")
            .args(["--addr", "127.0.0.1", "--port", client])
            .args(["--cluster_name", "p2pconnect", "--cluster"])
            .arg(format!("nats://127.0.0.1:{cluster}"))
            .arg("--config")
            .arg(file("settings"))
            .arg("--ports_file_dir")
            .arg(directory.path())
            .args(&options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                panic!("these tests need `nats-server`: apt-get install nats-server, or tests/run")
            }
            Err(error) => panic!("cannot start nats-server: {error}"),
        };
        let mut server = Self {
            child,
            options,
            directory,
            client: String::new(),
            cluster: String::new(),
        };
        server.ready().await;
        server
    }

    /// Waits until the server has written where it is.
    async fn ready(&mut self) {
        let name = format!("nats-server_{}.ports", self.child.id());
        let file = self.directory.path().join(name);
        let began = Instant::now();
        loop {
            let told = fs::read_to_string(&file).unwrap_or_default();
            if let Ok(ports) = serde_json::from_str::<Value>(&told) {
                let url = |of: &str| ports[of][0].as_str().unwrap().to_owned();
                (self.client, self.cluster) = (url("nats"), url("cluster"));
                return;
            }
            let is_late = began.elapsed() > START_LIMIT;
            if is_late || self.child.try_wait().unwrap().is_some() {
                let log = fs::read_to_string(self.directory.path().join("log"));
                panic!("nats-server does not serve: {log:?}");
            }
            sleep(START_POLL).await;
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
