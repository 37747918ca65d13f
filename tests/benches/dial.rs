//! How long a dial takes, beside the round trips that it cannot do without.
//!
//! `cargo bench -p p2pconnect-tests --bench dial [-- DIALS]`
//!
//! The path is that of the namespace tests: 80 ms round trip between the peers (R), 42 ms to the
//! server (r). *Cold* is a fresh process: from its start until application bytes can be sent, at
//! least 2r + R. *Warm* is an endpoint that is bound already: from the call of `dial`, at least
//! r + R. *With loss*, one packet in twenty is lost on each way between the peers. *Without UDP*,
//! the NATs drop all of it, and a cold dial takes 3r + R at least, as TCP and TLS take a round trip
//! each.
//!
//! A second table tells what the worst dial of each row took: how long from the call of `dial`
//! until the introduction that served and until TCP was open, and how many introductions and
//! attempts to connect.

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
use p2pconnect::{Connection, CoordinatorAddr, Endpoint, PeerId, SecretKey};
use p2pconnect_tests::{bench, net::Net};

/// How many dials a row is made of if the command line does not say.
const DIALS: usize = 20;

/// The round trip to the server.
const R_SERVER: Duration = Duration::from_millis(42);

/// The round trip between the peers.
const R_PEERS: Duration = Duration::from_millis(80);

/// What each of the two access links loses, so that both together lose 5 %.
const LOSS: f64 = 0.0253;

/// What a dial took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Took {
    /// In all, from where the row counts.
    time: Duration,
    /// From the call of `dial` until the introduction.
    introduced: Duration,
    /// From there too until TCP was open.
    tcp: Duration,
    rounds: u32,
    attempts: u32,
}

/// What dials took, `None` for one that failed.
type Dials = Vec<Option<Took>>;

fn main() -> Result<ExitCode, netns_lab::Error> {
    bench::isolated(measure)
}

fn measure(number: Option<usize>) {
    let dials = number.unwrap_or(DIALS);
    println!("{dials} dials each; r = 42 ms to the server, R = 80 ms between the peers\n");
    println!(
        "| both NATs answer a stranger's SYN with | dial | limit | median | ratio | 95 % | ratio | worst | failed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut worst = Vec::new();
    let mut rows = |name: &str, net: Net, cold_limit| {
        let peer = net.id("b");
        let _listener = net.listen("b");
        let cold = cold(&net, &peer, dials);
        worst.extend(report(name, "cold", cold_limit, cold));
        let warm = warm(&net, &peer, dials);
        worst.extend(report(name, "warm", R_SERVER + R_PEERS, warm));
    };
    let silent = [NatSpec::port_preserving().answering(UnsolicitedSyn::Nothing)];
    let resets = [NatSpec::port_preserving().answering(UnsolicitedSyn::Rst)];
    let without_udp = silent.map(NatSpec::drop_udp);
    let between = |nat, loss| Net::with_loss(nat, nat, loss);
    let cold_limit = 2 * R_SERVER + R_PEERS;
    rows("nothing", between(&silent, 0.0), cold_limit);
    rows("RST", between(&resets, 0.0), cold_limit);
    rows("nothing, with loss", between(&silent, LOSS), cold_limit);
    rows("RST, with loss", between(&resets, LOSS), cold_limit);
    let net = Net::on_model(&without_udp, &without_udp);
    rows("nothing, without UDP", net, cold_limit + R_SERVER);
    println!("\n| row | worst | introduced | TCP | rounds | attempts |\n|---|---|---|---|---|---|");
    for line in worst {
        println!("{line}");
    }
}

/// Prints a row, and returns what there is to say about its worst dial.
fn report(nat: &str, kind: &str, limit: Duration, dials: Dials) -> Option<String> {
    let all = dials.len();
    let mut times: Vec<_> = dials.into_iter().flatten().collect();
    times.sort();
    let failed = all - times.len();
    let Some(last) = times.len().checked_sub(1) else {
        println!(
            "| {nat} | {kind} | {} ms | - | - | - | - | - | {failed} |",
            limit.as_millis()
        );
        return None;
    };
    let [median, most] = [last / 2, last * 95 / 100].map(|place| times[place].time);
    let worst = times[last];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let ratio = |time: Duration| time.as_secs_f64() / limit.as_secs_f64();
    println!(
        "| {nat} | {kind} | {} ms | {:.0} ms | {:.2} | {:.0} ms | {:.2} | {:.0} ms | {failed} |",
        limit.as_millis(),
        ms(median),
        ratio(median),
        ms(most),
        ratio(most),
        ms(worst.time),
    );
    Some(format!(
        "| {nat}, {kind} | {:.0} ms | {:.0} ms | {:.0} ms | {} | {} |",
        ms(worst.time),
        ms(worst.introduced),
        ms(worst.tcp),
        worst.rounds,
        worst.attempts,
    ))
}

fn cold(net: &Net, peer: &str, dials: usize) -> Dials {
    let dial = |_| {
        let dialled = net.dial("a", peer, b"cold");
        let established = dialled.event("established")?;
        let time = |field: &str| {
            let ms = established[field].as_f64()?;
            Some(Duration::from_secs_f64(ms / 1e3))
        };
        let count = |field: &str| u32::try_from(established[field].as_u64()?).ok();
        Some(Took {
            time: time("since_start_ms")?,
            introduced: time("introduced_ms")?,
            tcp: time("tcp_ms")?,
            rounds: count("rounds")?,
            attempts: count("attempts")?,
        })
    };
    (0..dials).map(dial).collect()
}

fn warm(net: &Net, peer: &str, dials: usize) -> Dials {
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

async fn warm_dials(coordinator: &CoordinatorAddr, peer: PeerId, dials: usize) -> Dials {
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
        let took = |connection: &Connection| {
            let path = connection.path();
            Took {
                time: began.elapsed(),
                introduced: path.times.introduced,
                tcp: path.times.tcp,
                rounds: path.times.rounds,
                attempts: path.attempts,
            }
        };
        times.push(connection.as_ref().ok().map(took));
        drop(connection);
        endpoint.close().await;
    }
    times
}
