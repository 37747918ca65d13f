//! Lets p2pconnect dial between all presets of the lab, both ways round, and judges it by the oracle.
//!
//! `cargo bench -p p2pconnect-tests --bench presets [-- OPTIONS]`, see `--help`.
//!
//! Each lab has a coordinator with STUN on two addresses, and two endpoints of the library that have
//! found out how their NATs behave. The path is that of the namespace tests:
//! 80 ms round trip between the peers (R), 42 ms to the server (r). Counted is from the call of
//! `dial` until application bytes can be sent; a dial is a success if the peer answers on what it
//! gives. It takes at least r + R, and half an R more where the dialler can only accept, because
//! the listener's port is not known, or its NAT refuses a SYN in answer to its own.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should stop"
)]
#![expect(clippy::print_stdout, reason = "the figures")]

use std::{
    num::NonZero,
    path::PathBuf,
    process::ExitCode,
    sync::mpsc,
    time::{Duration, Instant},
};

use clap::Parser;
use netns_lab::{
    Dependence, Engine, Lab, NatSpec, SimultaneousOpen,
    matrix::{self, Ground, Kind, Options, Program, ProgramError},
    oracle::{self, Outcome, Outside},
    preset,
    puncher::{Established, Path, PunchOutcome},
};
use p2pconnect::{Builder, CoordinatorAddr, DialPolicy, Endpoint, PeerId, SecretKey};
use p2pconnect_tests::settled::{block_on, settled};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    time::timeout,
};
use tracing_subscriber::EnvFilter;

use crate::serving::serve;

mod serving;

/// How long the peer may take to answer on a connection.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Lets p2pconnect dial between all presets of the lab, both ways round.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each pair is dialled
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// What all randomness of the labs comes from
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The rows and columns; all presets if not given
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    kinds: Vec<String>,
    /// How many labs run at a time; more than the processors carry make dials slower
    #[arg(long, value_name = "N", default_value = "4")]
    labs: NonZero<usize>,
    /// Lets one lab serve for several dials wherever its NATs bear that, not only between mappings
    /// that are the same for all. It takes half of the time, but a dial right after another one with
    /// the same peer may find its pair of ports taken
    #[arg(long)]
    share_labs: bool,
    /// Who is the NATs: the lab's model by default, which can be all of them
    #[arg(long)]
    netfilter: bool,
    /// Writes a page with the matrix as a heat map
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Writes a capture of each dial
    #[arg(long, value_name = "DIR")]
    pcap: Option<PathBuf>,
    /// Cargo says this
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    if let Some(code) = netns_lab::isolate()? {
        return Ok(code);
    }
    p2pconnect::raise_file_limit()?;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let options = options(&arguments)?;
    let matrix = matrix::run(&options, |progress| {
        if progress.done % options.kinds.len() == 0 || progress.done == progress.total {
            println!("{} of {} pairs", progress.done, progress.total);
        }
    })?;
    let report = matrix.into_report(&options);
    println!("\n{}", report.summary());
    if let Some(file) = &arguments.report {
        std::fs::write(file, report.html())?;
    }
    let short = report.work_list().len() + report.alarms().len();
    Ok(ExitCode::from(u8::from(short > 0)))
}

fn options(arguments: &Arguments) -> Result<Options, preset::UnknownPreset> {
    let mut options = Options {
        runs: arguments.runs,
        seed: arguments.seed,
        ground: Ground::Namespaces,
        program: Some(Program {
            name: "p2pconnect",
            bound,
            runs_in_a_lab: if arguments.share_labs {
                runs_in_a_lab
            } else {
                undisturbed_runs_in_a_lab
            },
            punch,
        }),
        captures: arguments.pcap.clone(),
        max_ladders: 0,
        workers: Some(arguments.labs),
        ..Options::default()
    };
    if arguments.netfilter {
        options.engine = Engine::Netfilter;
    }
    if !arguments.kinds.is_empty() {
        let kinds = arguments.kinds.iter();
        let kinds = kinds.map(|name| Ok(preset::find(name)?.into()));
        options.kinds = kinds.collect::<Result<Vec<Kind>, _>>()?;
    }
    Ok(options)
}

/// Returns what the round trips alone take.
fn bound(path: &Path, [dialler, listener]: [&[NatSpec]; 2]) -> Duration {
    let (dialler, listener) = (Outside::of(dialler), Outside::of(listener));
    let lets_in = dialler.endpoint == oracle::Endpoint::Reflected
        && dialler.filtering != Dependence::AddressAndPortDependent;
    let accepts = lets_in && !listener.endpoint.is_predictable()
        || listener.simultaneous_open != SimultaneousOpen::Allowed;
    let late = if accepts {
        path.between_peers() / 2
    } else {
        Duration::ZERO
    };
    path.to_server() + path.between_peers() + late
}

/// Returns how often one lab is dialled in if no dial may be slower for the one before.
///
/// Between mappings that are the same for all, the peers take turns with their ports; and what is
/// given up at once leaves nothing behind.
fn undisturbed_runs_in_a_lab(chains: [&[NatSpec]; 2]) -> u32 {
    let fixed = chains.iter().all(|chain| {
        let endpoint = Outside::of(chain).endpoint;
        matches!(
            endpoint,
            oracle::Endpoint::Reflected | oracle::Endpoint::Kept
        )
    });
    let outcome = oracle::punchable(chains[0], chains[1]).outcome;
    let hopeless = matches!(outcome, Outcome::Impossible { .. });
    if fixed || hopeless { 10 } else { 1 }
}

/// Returns how often one lab is dialled in if its NATs only have to bear it.
///
/// A range that is filled is used up for minutes, and in a row of ports the dialler looks anew after
/// each dial. Where all ports are guessed among, a NAT holds some thousand flows, and of anything else a handful.
fn runs_in_a_lab(chains: [&[NatSpec]; 2]) -> u32 {
    let endpoints = chains.map(|chain| Outside::of(chain).endpoint);
    let runs = endpoints.map(|endpoint| match endpoint {
        oracle::Endpoint::Reflected | oracle::Endpoint::Kept => 10,
        oracle::Endpoint::Random(ports) if ports > 1024 => 5,
        oracle::Endpoint::Random(_) | oracle::Endpoint::Sequential(_) => 1,
    });
    runs[0].min(runs[1])
}

/// Dials in a lab: a server, a listener and a dialler, each on a thread of its own.
fn punch(lab: &Lab, dials: u32) -> Result<Vec<PunchOutcome>, ProgramError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (at, serving) = mpsc::channel();
    std::thread::scope(|scope| {
        let server = lab.host("server");
        scope.spawn(move || server.run(|| block_on(serve(server, at, stopped))).unwrap());
        let coordinator: CoordinatorAddr = serving.recv()?;
        let builder = || Endpoint::builder().coordinator(coordinator.clone());
        let (online, listening) = mpsc::channel();
        let (done, over) = oneshot::channel();
        let (listener, builder_there) = (lab.host("listener"), builder());
        scope.spawn(move || {
            let listen = || block_on(listen(builder_there, online, over));
            listener.run(listen).unwrap();
        });
        let peer = listening.recv()?;
        let dial_all = || block_on(dial_all(builder(), peer, listening, dials));
        let outcomes = lab.host("dialler").run(dial_all)?;
        drop((done, stop));
        Ok(outcomes)
    })
}

/// Answers whoever dials until the dialler is done.
async fn listen(builder: Builder, online: mpsc::Sender<PeerId>, over: oneshot::Receiver<()>) {
    let key = SecretKey::generate().unwrap();
    let peer = key.peer_id();
    online.send(peer).unwrap();
    let builder = builder.secret_key(key).allow(DialPolicy::Anyone);
    let (endpoint, _) = settled(builder).await;
    online.send(peer).unwrap();
    let answering = async {
        while let Some(mut connection) = endpoint.accept().await {
            let mut byte = [0];
            // A connection that was given up is the dialler's matter.
            if connection.read_exact(&mut byte).await.is_ok() {
                drop(connection.write_all(&byte).await);
                drop(connection.read(&mut byte).await);
            }
        }
    };
    tokio::select! {
        () = answering => {}
        _ = over => {}
    }
}

async fn dial_all(
    builder: Builder,
    peer: PeerId,
    online: mpsc::Receiver<PeerId>,
    dials: u32,
) -> Vec<PunchOutcome> {
    let (endpoint, _) = settled(builder).await;
    // Both have begun at the same time and take as long; what is left is short.
    online.recv().unwrap();
    let mut outcomes = Vec::new();
    for _ in 0..dials {
        outcomes.push(dial(&endpoint, peer).await);
    }
    outcomes
}

async fn dial(endpoint: &Endpoint, peer: PeerId) -> PunchOutcome {
    let began = Instant::now();
    let dialled = endpoint.dial(peer).await;
    let after = began.elapsed();
    let answered = match dialled {
        Ok(mut connection) => {
            let how = connection.path().how.to_string();
            let answer = async {
                connection.write_all(b"?").await?;
                connection.read_u8().await
            };
            match timeout(ANSWER_LIMIT, answer).await {
                Ok(Ok(_)) => Ok(Established { how, after }),
                Ok(Err(error)) => Err(format!("the connection broke: {error}")),
                Err(_) => Err("the peer did not answer".to_owned()),
            }
        }
        Err(error) => Err(error.to_string()),
    };
    PunchOutcome {
        failed_after: answered.is_err().then_some(after),
        failure: answered.as_ref().err().cloned(),
        established: answered.ok(),
    }
}
