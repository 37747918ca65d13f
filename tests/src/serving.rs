//! `p2pconnect serve` as a process that can be killed and started again.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use p2pconnect::CoordinatorAddr;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::program::p2pconnect;

/// A coordinator and its STUN server, in a process of their own.
#[derive(Debug)]
pub struct Serving {
    /// The process.
    pub child: Child,
    key: PathBuf,
    /// Where the coordinator is.
    pub coordinator: CoordinatorAddr,
    stun: SocketAddr,
    /// Where its metrics are, if it serves any.
    pub metrics: Option<SocketAddr>,
}

impl Serving {
    /// Starts a process on free ports, whose key is kept in `directory`.
    pub async fn start(directory: &Path) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::on(any, any, directory.join("coordinator.pem")).await
    }

    /// Kills the process, as the system does when memory runs out: it says nothing to anybody.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts another process with the same key on the same ports, and returns when it serves.
    pub async fn restart(&mut self) {
        let listen = SocketAddr::new(
            self.coordinator.host.parse().unwrap(),
            self.coordinator.port,
        );
        *self = Self::on(listen, self.stun, self.key.clone()).await;
    }

    async fn on(listen: SocketAddr, stun: SocketAddr, key: PathBuf) -> Self {
        Self::spawn(Self::command(listen, stun, &key), key).await
    }

    /// Returns the command, which logs nothing.
    pub fn command(listen: SocketAddr, stun: SocketAddr, key: &Path) -> Command {
        let mut command = Command::new(p2pconnect());
        command
            .args(["serve", "--listen", &listen.to_string()])
            .args(["--stun", &stun.to_string(), "--key"])
            .arg(key)
            .env("RUST_LOG", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Sends a signal to the process.
    pub async fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id().unwrap());
        let sent = Command::new("sh").args(["-c", &kill]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Starts the process of a command that serves with the key in this file, and returns when it
    /// serves.
    pub async fn spawn(mut command: Command, key: PathBuf) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut value_of = async |name: &str| {
            let line = lines.next_line().await.unwrap().unwrap();
            line.strip_prefix(name).unwrap().trim().to_owned()
        };
        let coordinator = value_of("coordinator:").await.parse().unwrap();
        let stun = value_of("stun:").await.parse().unwrap();
        // All lines come in one piece, and a server without metrics has said its last.
        let rest = String::from_utf8(lines.into_inner().buffer().to_vec()).unwrap();
        let metrics = rest.lines().find_map(|it| {
            let at = it.strip_prefix("metrics: http://")?;
            at.strip_suffix("/metrics")?.parse().ok()
        });
        Self {
            child,
            key,
            coordinator,
            stun,
            metrics,
        }
    }
}
