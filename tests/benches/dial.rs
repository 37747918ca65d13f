//! How long a dial takes, beside the round trips that it cannot do without.
//!
//! `cargo bench -p p2pconnect-tests --bench dial`
//!
//! The path is that of the namespace tests: 80 ms round trip between the peers (R), 42 ms to the
//! server (r). *Cold* is a fresh process: from its start until application bytes can be sent, at
//! least 3r + 2R. *Warm* is an endpoint that is bound already: from the call of `dial`, at least
//! r + 2R.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should stop"
)]
#![expect(clippy::print_stdout, reason = "the figures")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use netns_lab::{NatSpec, UnsolicitedSyn};
use p2pconnect::{CoordinatorAddr, Endpoint, PeerId, SecretKey};

use crate::net::Net;

#[expect(dead_code, reason = "the namespace tests use more of it")]
#[path = "../netns/net.rs"]
mod net;
#[expect(dead_code, reason = "the namespace tests use more of it")]
#[path = "../netns/process.rs"]
mod process;

/// How many dials a median is made of.
const RUNS: usize = 20;

/// The round trip to the server.
const R_SERVER: Duration = Duration::from_millis(42);

/// The round trip between the peers.
const R_PEERS: Duration = Duration::from_millis(80);

fn main() -> Result<ExitCode, netns_lab::Error> {
    if let Some(code) = netns_lab::isolate()? {
        return Ok(code);
    }
    println!("{RUNS} dials each; r = 42 ms to the server, R = 80 ms between the peers\n");
    println!("| both NATs answer a stranger's SYN with | dial | limit | median | worst | ratio |");
    println!("|---|---|---|---|---|---|");
    for (name, answer) in [
        ("nothing", UnsolicitedSyn::Nothing),
        ("RST", UnsolicitedSyn::Rst),
    ] {
        let nat = [NatSpec::port_preserving().answering(answer)];
        let net = Net::new(&nat, &nat);
        let peer = net.id("b");
        let _listener = net.listen("b");
        report(name, "cold", 3 * R_SERVER + 2 * R_PEERS, cold(&net, &peer));
        report(name, "warm", R_SERVER + 2 * R_PEERS, warm(&net, &peer));
    }
    Ok(ExitCode::SUCCESS)
}

fn report(nat: &str, kind: &str, limit: Duration, mut times: Vec<Duration>) {
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "| {nat} | {kind} | {} ms | {:.0} ms | {:.0} ms | {:.2} |",
        limit.as_millis(),
        median.as_secs_f64() * 1e3,
        worst.as_secs_f64() * 1e3,
        median.as_secs_f64() / limit.as_secs_f64(),
    );
}

fn cold(net: &Net, peer: &str) -> Vec<Duration> {
    let dial = |_| {
        let dialled = net.dial_echo("a", peer, "cold");
        let established = dialled.event("established").unwrap();
        Duration::from_secs_f64(established["since_start_ms"].as_f64().unwrap() / 1e3)
    };
    (0..RUNS).map(dial).collect()
}

fn warm(net: &Net, peer: &str) -> Vec<Duration> {
    let (coordinator, peer) = (net.coordinator.parse().unwrap(), peer.parse().unwrap());
    let dial_all = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime
            .enable_all()
            .build()
            .unwrap()
            .block_on(warm_dials(&coordinator, peer))
    };
    net.lab.host("a").run(dial_all).unwrap()
}

async fn warm_dials(coordinator: &CoordinatorAddr, peer: PeerId) -> Vec<Duration> {
    let mut times = Vec::new();
    let key = SecretKey::generate().unwrap().to_pem();
    for _ in 0..RUNS {
        let builder = Endpoint::builder().secret_key(SecretKey::from_pem(&key).unwrap());
        let endpoint = builder
            .coordinator(coordinator.clone())
            .bind()
            .await
            .unwrap();
        let began = Instant::now();
        let connection = endpoint.dial(peer).await.unwrap();
        times.push(began.elapsed());
        drop(connection);
        endpoint.close().await;
    }
    times
}
