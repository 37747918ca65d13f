//! The process that is measured.

use std::{process::Stdio, time::Duration};

use p2pconnect_proto::CoordinatorAddr;
use p2pconnect_tests::bench;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::served::Kind;

/// A server in a process of its own, which ends with this one.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: CoordinatorAddr,
    child: Child,
}

impl Server {
    /// Starts the server, on the first processor, and leaves the second one to this process.
    pub(crate) async fn start(kind: Kind) -> Self {
        pin(std::process::id(), 1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", &kind.argument()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        pin(child.id().unwrap(), 0);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.next_line().await.unwrap().unwrap().parse().unwrap();
        Self {
            kind,
            address,
            child,
        }
    }

    fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Returns the resident memory, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        bench::resident(self.id())
    }

    /// Returns how long the process has computed.
    pub(crate) fn processor_time(&self) -> Duration {
        bench::processor_time(self.id())
    }

    /// Returns which part of the time to come the process computes.
    pub(crate) async fn busy_for(&self, time: Duration) -> f64 {
        let (began, computed) = (Instant::now(), self.processor_time());
        sleep(time).await;
        (self.processor_time() - computed).as_secs_f64() / began.elapsed().as_secs_f64()
    }
}

/// Lets a process run on one processor alone. On a machine that has only one, nothing changes.
fn pin(process: u32, processor: u32) {
    let pinned = std::process::Command::new("taskset")
        .args(["-acp", &processor.to_string(), &process.to_string()])
        .stdout(Stdio::null())
        .status();
    if !pinned.is_ok_and(|it| it.success()) {
        println!("not bound to processor {processor}: taskset of util-linux cannot do it");
    }
}
