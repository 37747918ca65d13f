//! How long a dial takes, beside the round trips that it cannot do without.
//!
//! `cargo bench -p p2pconnect-tests --bench dial [-- DIALS]`
//!
//! The path is that of the namespace tests: 80 ms round trip between the peers (R), 42 ms to the
//! server (r). *Cold* is a fresh process: from its start until application bytes can be sent, at
//! least 2r + R. *Warm* is an endpoint that is bound already: from the call of `dial`, at least
//! r + R. *With loss*, one packet in twenty is lost on each way between the peers.

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

#[path = "../netns/nat_pmp.rs"]
mod nat_pmp;
#[expect(dead_code, reason = "the namespace tests use more of it")]
#[path = "../netns/net.rs"]
mod net;
#[expect(dead_code, reason = "the namespace tests use more of it")]
#[path = "../netns/process.rs"]
mod process;
#[expect(dead_code, reason = "only the namespace tests have routers")]
#[path = "../netns/router.rs"]
mod router;
#[path = "../netns/tayga.rs"]
mod tayga;

/// How many dials a row is made of if the command line does not say.
const DIALS: usize = 20;

/// The round trip to the server.
const R_SERVER: Duration = Duration::from_millis(42);

/// The round trip between the peers.
const R_PEERS: Duration = Duration::from_millis(80);

/// What each of the two access links loses, so that both together lose 5 %.
const LOSS: f64 = 0.0253;

/// The times of dials, `None` for one that failed.
type Times = Vec<Option<Duration>>;

fn main() -> Result<ExitCode, netns_lab::Error> {
    if let Some(code) = netns_lab::isolate()? {
        return Ok(code);
    }
    // Cargo adds --bench.
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let dials = number.unwrap_or(DIALS);
    println!("{dials} dials each; r = 42 ms to the server, R = 80 ms between the peers\n");
    println!(
        "| both NATs answer a stranger's SYN with | dial | limit | median | ratio | 95 % | ratio | worst | failed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for loss in [0.0, LOSS] {
        for (name, answer) in [
            ("nothing", UnsolicitedSyn::Nothing),
            ("RST", UnsolicitedSyn::Rst),
        ] {
            let name = if loss > 0.0 {
                format!("{name}, with loss")
            } else {
                name.to_owned()
            };
            let nat = [NatSpec::port_preserving().answering(answer)];
            let net = Net::with_loss(&nat, &nat, loss);
            let peer = net.id("b");
            let _listener = net.listen("b");
            let cold = cold(&net, &peer, dials);
            report((&name, "cold"), 2 * R_SERVER + R_PEERS, cold);
            let warm = warm(&net, &peer, dials);
            report((&name, "warm"), R_SERVER + R_PEERS, warm);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn report((nat, kind): (&str, &str), limit: Duration, times: Times) {
    let all = times.len();
    let mut times: Vec<_> = times.into_iter().flatten().collect();
    times.sort();
    let failed = all - times.len();
    let Some(last) = times.len().checked_sub(1) else {
        println!(
            "| {nat} | {kind} | {} ms | - | - | - | - | - | {failed} |",
            limit.as_millis()
        );
        return;
    };
    let (median, worst) = (times[last / 2], times[last]);
    let most = times[last * 95 / 100];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let ratio = |time: Duration| time.as_secs_f64() / limit.as_secs_f64();
    println!(
        "| {nat} | {kind} | {} ms | {:.0} ms | {:.2} | {:.0} ms | {:.2} | {:.0} ms | {failed} |",
        limit.as_millis(),
        ms(median),
        ratio(median),
        ms(most),
        ratio(most),
        ms(worst),
    );
}

fn cold(net: &Net, peer: &str, dials: usize) -> Times {
    let dial = |_| {
        let dialled = net.dial("a", peer, b"cold");
        let established = dialled.event("established")?;
        let ms = established["since_start_ms"].as_f64()?;
        Some(Duration::from_secs_f64(ms / 1e3))
    };
    (0..dials).map(dial).collect()
}

fn warm(net: &Net, peer: &str, dials: usize) -> Times {
    let (coordinator, peer) = (net.coordinator.parse().unwrap(), peer.parse().unwrap());
    let dial_all = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime
            .enable_all()
            .build()
            .unwrap()
            .block_on(warm_dials(&coordinator, peer, dials))
    };
    net.lab.host("a").run(dial_all).unwrap()
}

async fn warm_dials(coordinator: &CoordinatorAddr, peer: PeerId, dials: usize) -> Times {
    let mut times = Vec::new();
    let key = SecretKey::generate().unwrap().to_pem();
    while times.len() < dials {
        let builder = Endpoint::builder().secret_key(SecretKey::from_pem(&key).unwrap());
        let endpoint = builder
            .coordinator(coordinator.clone())
            .bind()
            .await
            .unwrap();
        let began = Instant::now();
        let connection = endpoint.dial(peer).await;
        times.push(connection.is_ok().then(|| began.elapsed()));
        drop(connection);
        endpoint.close().await;
    }
    times
}
