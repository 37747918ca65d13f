//! What p2pconnect costs a machine: processor time of a dial, and how often it wakes when idle.
//!
//! `cargo bench -p p2pconnect-tests --bench cost`
//!
//! The path is that of the namespace tests: 80 ms round trip between the peers, 42 ms to the
//! server. Processor time is what Linux counts for the threads (`schedstat`): of the dialling
//! thread from the call of `dial` to its return, of the listening process from one dial to the
//! next. An idle listener's wake-ups are moments at which any of its threads began to wait
//! again, looked for every 20 ms; what lies less than 200 ms apart is one.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should stop"
)]
#![expect(clippy::print_stdout, reason = "the figures")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use netns_lab::{NatSpec, UnsolicitedSyn};
use p2pconnect::{CoordinatorAddr, Endpoint, PeerId};
use p2pconnect_tests::{bench, net::Net};

/// How many dials a figure is the mean of.
const DIALS: u32 = 50;

/// How long an idle listener is watched.
const IDLE: Duration = Duration::from_secs(120);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What lies closer together is one wake-up: a round trip and its timers.
const APART: Duration = Duration::from_millis(200);

fn main() -> Result<ExitCode, netns_lab::Error> {
    bench::isolated(measure)
}

fn measure(_: Option<usize>) {
    println!("| both NATs answer a stranger's SYN with | dialler | listener |");
    println!("|---|---|---|");
    for (name, answer) in [
        ("nothing", UnsolicitedSyn::Nothing),
        ("RST", UnsolicitedSyn::Rst),
    ] {
        let (dialler, listener) = dials(answer);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "| {name} | {:.2} ms | {:.2} ms |",
            ms(dialler),
            ms(listener)
        );
    }
    let wakes = idle();
    println!(
        "\nAn idle listener woke {wakes} times in {} s, once every {:.1} s.",
        IDLE.as_secs(),
        IDLE.as_secs_f64() / wakes as f64
    );
}

/// Returns the processor time of a dial on both sides.
fn dials(answer: UnsolicitedSyn) -> (Duration, Duration) {
    let nat = [NatSpec::port_preserving().answering(answer)];
    let net = Net::new(&nat, &nat);
    let peer: PeerId = net.id("b").parse().unwrap();
    let listener = net.listen("b");
    let coordinator = net.coordinator.parse().unwrap();
    let before = cpu_of_process(listener.pid());
    let dial_all = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime
            .enable_all()
            .build()
            .unwrap()
            .block_on(dial_all(&coordinator, peer))
    };
    let dialler = net.lab.host("a").run(dial_all).unwrap();
    let listener = cpu_of_process(listener.pid()) - before;
    (dialler / DIALS, listener / DIALS)
}

async fn dial_all(coordinator: &CoordinatorAddr, peer: PeerId) -> Duration {
    let mut spent = Duration::ZERO;
    let endpoint = Endpoint::builder().coordinator(coordinator.clone());
    let endpoint = endpoint.bind().await.unwrap();
    for _ in 0..DIALS {
        let before = cpu_of_thread();
        let connection = endpoint.dial(peer).await.unwrap();
        spent += cpu_of_thread() - before;
        drop(connection);
    }
    spent
}

/// Counts the wake-ups of a listener whom nobody dials.
fn idle() -> usize {
    let nat = [NatSpec::port_preserving()];
    let net = Net::new(&nat, &nat);
    let listener = net.listen("b");
    let mut switches = switches_of(listener.pid());
    let began = Instant::now();
    let mut last: Option<Instant> = None;
    let mut wakes = 0;
    while began.elapsed() < IDLE {
        std::thread::sleep(LOOK);
        let now = switches_of(listener.pid());
        if now != switches {
            switches = now;
            wakes += usize::from(last.is_none_or(|last| last.elapsed() > APART));
            last = Some(Instant::now());
        }
    }
    wakes
}

fn cpu_of_process(pid: u32) -> Duration {
    threads(pid).iter().map(|thread| cpu(thread)).sum()
}

fn cpu_of_thread() -> Duration {
    cpu(Path::new("/proc/thread-self"))
}

/// Reads the time on a processor, the first number of `schedstat`, in nanoseconds.
fn cpu(thread: &Path) -> Duration {
    let text = fs::read_to_string(thread.join("schedstat")).unwrap();
    let first = text.split(' ').next().unwrap();
    Duration::from_nanos(first.parse().unwrap())
}

/// Lists the threads of a process by its number in our own namespace, where it has another one
/// than in the namespace that `/proc` shows.
fn threads(pid: u32) -> Vec<PathBuf> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
    let ours = namespace(Path::new("/proc/self"));
    let is_it = |process: &PathBuf| {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inner = numbers.and_then(|numbers| numbers.split_whitespace().last()?.parse().ok());
        inner == Some(pid) && namespace(process) == ours
    };
    let processes = fs::read_dir("/proc").unwrap();
    let process = processes
        .map(|process| process.unwrap().path())
        .find(is_it)
        .unwrap();
    let tasks = fs::read_dir(process.join("task")).unwrap();
    tasks.map(|task| task.unwrap().path()).collect()
}

/// Counts how often the threads of a process have begun to wait.
fn switches_of(pid: u32) -> u64 {
    let of = |thread: &PathBuf| -> u64 {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    };
    threads(pid).iter().map(of).sum()
}
