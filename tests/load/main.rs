//! What a coordinator takes for peers that are registered and quiet, and for introductions.
//!
//! ```text
//! cargo bench -p p2pconnect-tests --bench load -- idle 1000 10000 100000
//! cargo bench -p p2pconnect-tests --bench load -- introduce --rate 5000 1000 100000
//! cargo bench -p p2pconnect-tests --bench load -- introduce --hostile 400 --seconds 60
//! ```
//!
//! The coordinator runs in a process of its own on the first processor, all of whose limits are out
//! of the way; this process holds the peers, on the second one. `idle` compares the coordinator
//! with a bare QUIC server that keeps its connections and does nothing else, and with itself where
//! peers come by TLS on TCP, as far as this machine lets both sides have as many files. What a peer
//! takes is the growth of the process's resident memory, divided by the number of peers, once all
//! of them have been quiet for two of their keep-alives.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should stop"
)]
#![expect(clippy::print_stdout, reason = "the figures")]

mod crowd;
mod hostile;
mod introductions;
mod process;
mod served;

use std::time::Duration;

use clap::{Parser, Subcommand};
use p2pconnect_host::Host;

use crate::{
    crowd::Crowd,
    hostile::attack,
    introductions::Drive,
    process::Server,
    served::{Kind, serve},
};

/// How long peers are left alone before what they take is looked at: two keep-alives, and the time
/// after which QUIC has forgotten the handshake.
const SETTLING: Duration = Duration::from_secs(35);

/// The files that a process takes beside those of its connections.
const FILES_BESIDES: u64 = 256;

/// What a coordinator takes for peers and for introductions.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Given by cargo.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures what registered peers take that are quiet, and bare QUIC connections.
    Idle {
        /// How many peers there are.
        #[arg(default_values_t = [1_000, 10_000])]
        peers: Vec<usize>,
    },
    /// Measures introductions.
    Introduce {
        /// How many peers there are.
        #[arg(default_values_t = [1_000])]
        peers: Vec<usize>,
        /// How many introductions begin each second.
        #[arg(long, default_value_t = 1_000)]
        rate: u32,
        /// Whether the peers come by TLS on TCP.
        #[arg(long)]
        tcp: bool,
        /// How many others do their worst meanwhile, beside what a coordinator has limits for.
        #[arg(long, default_value_t = 0)]
        hostile: usize,
        /// For how many seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u32,
    },
    /// Is what is measured.
    #[command(hide = true)]
    Serve { kind: Kind },
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match arguments.command {
            Command::Idle { peers } => idle(&peers).await,
            Command::Introduce {
                peers,
                rate,
                tcp,
                hostile,
                seconds,
            } => {
                let kind = match (tcp, hostile) {
                    (true, _) => Kind::Tcp,
                    (false, 0) => Kind::Coordinator,
                    (false, _) => Kind::Limited,
                };
                for number in peers {
                    let drive = Drive { rate, seconds };
                    introduce(kind, number, drive, hostile).await;
                }
            }
            Command::Serve { kind } => serve(kind).await,
        }
    });
}

async fn idle(numbers: &[usize]) {
    println!("| peers | server | resident | each | processor |");
    println!("|---|---|---|---|---|");
    for &number in numbers {
        for kind in [Kind::Leanest, Kind::Bare, Kind::Coordinator, Kind::Tcp] {
            if kind == Kind::Tcp && number as u64 + FILES_BESIDES > Host::default().files_allowed()
            {
                println!("| {number} | {kind} | too many files | | |");
                continue;
            }
            let server = Server::start(kind).await;
            let before = server.resident();
            let crowd = Crowd::gather(&server, number).await;
            tokio::time::sleep(SETTLING).await;
            let busy = server.busy_for(SETTLING).await;
            let after = server.resident();
            #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
            let each = (after - before) as f64 / number as f64;
            println!(
                "| {number} | {kind} | {} MiB | {each:.2} KiB | {:.1} % of a core |",
                after / 1024,
                busy * 100.0
            );
            assert_eq!(crowd.lost(), 0, "connections that have ended");
        }
    }
}

async fn introduce(kind: Kind, number: usize, drive: Drive, hostile: usize) {
    let server = Server::start(kind).await;
    let crowd = Crowd::gather(&server, number).await;
    println!("| peers | a second | failed | median | 99 % | worst | processor | each |");
    println!("|---|---|---|---|---|---|---|---|");
    println!("| {number} | {} |", drive.run(&server, &crowd).await);
    if hostile > 0 {
        let _attack = attack(&server, hostile);
        let beside = drive.run(&server, &crowd).await;
        println!("| {number}, and {hostile} hostile | {beside} |");
    }
}
