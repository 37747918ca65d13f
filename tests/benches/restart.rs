//! How long a listener cannot be dialled after its coordinator was killed and started again.
//!
//! `cargo bench -p p2pconnect-tests --bench restart`
//!
//! On loopback, with `serve` in a process of its own that is killed by SIGKILL and stays away for
//! 0, 1, 10, 30 or 60 s. The time counts from the moment at which the new process says that it
//! serves, until a dial by another endpoint has a connection. Twenty listeners, each with a
//! coordinator of its own, go through this side by side, which takes some 70 s.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should stop"
)]
#![expect(clippy::print_stdout, reason = "the figures")]

use std::time::{Duration, Instant};

use p2pconnect::{DialError, DialPolicy, Endpoint};
use p2pconnect_tests::serving::Serving;
use tokio::{task::JoinSet, time::sleep};

/// How long the coordinators are away, in seconds.
const AWAY: [u64; 5] = [0, 1, 10, 30, 60];

/// How many listeners are tried for each.
const TRIES: usize = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut trying = JoinSet::new();
    for away in AWAY.into_iter().flat_map(|it| [it; TRIES]) {
        trying.spawn(async move { (away, back_after(Duration::from_secs(away)).await) });
    }
    let mut results = trying.join_all().await;
    results.sort_unstable();
    println!("| away | dialable again after |");
    println!("|---|---|");
    for away in AWAY {
        let times = results.iter().filter(|(it, _)| *it == away);
        let times: Vec<_> = times
            .map(|(_, time)| format!("{} ms", time.as_millis()))
            .collect();
        println!("| {away} s | {} |", times.join(", "));
    }
}

async fn back_after(away: Duration) -> Duration {
    let directory = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(directory.path()).await;
    let builder = || Endpoint::builder().coordinator(serving.coordinator.clone());
    let listener = builder().allow(DialPolicy::Anyone).bind().await.unwrap();
    serving.kill().await;
    sleep(away).await;
    serving.restart().await;
    let since = Instant::now();
    let dialler = Endpoint::builder().coordinator(serving.coordinator.clone());
    let dialler = dialler.bind().await.unwrap();
    loop {
        match dialler.dial(listener.peer_id()).await {
            Ok(_) => return since.elapsed(),
            Err(DialError::Unavailable { .. }) => sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
}
