//! How many dials connect where firewalls ban whoever sends a SYN that they do not expect.
//!
//! `cargo bench -p p2pconnect-tests --bench bans [-- DIALS]`
//!
//! Each host bans for a minute, and lets through nothing from a banned address then. Every dial is
//! by a fresh process in a lab of its own, over the path of the namespace tests: 80 ms round trip
//! between the peers, 42 ms to the server, and up to so much jitter on each packet to or from the
//! server. A dial that fails takes 15 s.

#![expect(clippy::print_stdout, reason = "the figures")]

use std::{process::ExitCode, time::Duration};

use p2pconnect_tests::{bench, net::Net};

/// How many dials a row is made of if the command line does not say.
const DIALS: usize = 8;

/// The jitter of each packet to or from the server, in milliseconds.
const JITTER: [u64; 4] = [0, 30, 60, 120];

fn main() -> Result<ExitCode, netns_lab::Error> {
    bench::isolated(measure)
}

fn measure(number: Option<usize>) {
    let dials = number.unwrap_or(DIALS);
    println!("| who bans | jitter | connected | median |\n|---|---|---|---|");
    for (who, hosts, spares_server) in [
        ("the dialler's host", &["a"][..], false),
        ("both hosts, but not the server", &["a", "b"], true),
    ] {
        for jitter in JITTER {
            let mut times: Vec<_> = (0..dials)
                .filter_map(|_| dial(hosts, spares_server, Duration::from_millis(jitter)))
                .collect();
            times.sort_by(f64::total_cmp);
            let median = times.get(times.len().saturating_sub(1) / 2);
            let median = median.map_or_else(|| "-".to_owned(), |it| format!("{it:.0} ms"));
            let connected = times.len();
            println!("| {who} | {jitter} ms | {connected} of {dials} | {median} |");
        }
    }
}

/// Returns how long a dial took from the start of its process, in milliseconds, if it connected.
fn dial(hosts: &[&str], spares_server: bool, jitter: Duration) -> Option<f64> {
    let net = Net::with_jitter(jitter);
    for host in hosts {
        net.ban_strangers(host, spares_server.then(|| net.external("server")));
    }
    let _listener = net.listen("b");
    let dialled = net.dial("a", &net.id("b"), b"heard");
    dialled.event("established")?["since_start_ms"].as_f64()
}
