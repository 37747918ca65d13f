//! What a coordinator takes of forged connection attempts, and what honest clients notice of them.
//!
//! `cargo bench -p p2pconnect-tests --bench flood`
//!
//! On loopback, with `serve` in a process of its own. For 20 s, 3,000 datagrams a second arrive,
//! each from another address of 127.0.0.0/8, with a ClientHello and a frame that ends the
//! connection. Beside them an endpoint connects to the coordinator, again and again. The same
//! without the flood is measured just before. It takes some 40 s.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should stop"
)]
#![expect(clippy::print_stdout, reason = "the figures")]

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use p2pconnect::Endpoint;
use p2pconnect_tests::{
    bench::{processor_time, resident},
    forger::Forger,
    serving::Serving,
};

/// How many datagrams leave each second.
const RATE: u32 = 3_000;

/// How many leave together: what is due in 10 ms.
const BATCH: u32 = RATE / 100;

/// How long each part takes.
const DURATION: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let serving = Serving::start(directory.path()).await;
    println!("| | resident memory | processor | connects | median | 95 % |");
    println!("|---|---|---|---|---|---|");
    row("quiet", &serving, None).await;
    let address = SocketAddr::new(
        serving.coordinator.host.parse().unwrap(),
        serving.coordinator.port,
    );
    row(
        "3,000 forged attempts a second",
        &serving,
        Some(Flood::start(address)),
    )
    .await;
}

async fn row(name: &str, serving: &Serving, flood: Option<Flood>) {
    let process = serving.child.id().unwrap();
    let began = Instant::now();
    let processor = processor_time(process);
    let mut peak = 0;
    let mut times = Vec::new();
    while began.elapsed() < DURATION {
        let since = Instant::now();
        let endpoint = Endpoint::builder().coordinator(serving.coordinator.clone());
        endpoint.bind().await.unwrap().close().await;
        times.push(since.elapsed());
        peak = peak.max(resident(process));
    }
    let took = began.elapsed();
    let busy = processor_time(process) - processor;
    drop(flood);
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
    println!(
        "| {name} | {} MiB | {:.0} % of a core | {} | {:.1} ms | {:.1} ms |",
        peak / 1024,
        100.0 * busy.as_secs_f64() / took.as_secs_f64(),
        times.len(),
        at(50),
        at(95),
    );
}

/// Forged attempts, until it is dropped.
struct Flood {
    ends: Arc<AtomicBool>,
    sending: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(target: SocketAddr) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let sending = thread::spawn(move || {
            let mut forger = Forger::new();
            let began = Instant::now();
            let mut sent = 0_u32;
            while !told.load(Ordering::Relaxed) && began.elapsed() < DURATION * 2 {
                for _ in 0..BATCH {
                    let source = Ipv4Addr::from_bits(0x7f10_0000 + sent);
                    let socket = UdpSocket::bind((source, 0)).unwrap();
                    socket.send_to(&forger.datagram(), target).unwrap();
                    sent += 1;
                }
                let due = Duration::from_secs(1) * sent / RATE;
                thread::sleep(due.saturating_sub(began.elapsed()));
            }
        });
        Self {
            ends,
            sending: Some(sending),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(sending) = self.sending.take() {
            sending.join().unwrap();
        }
    }
}
