//! Measures what labs cost: the time to set one up and to take it down, how exact its delays are,
//! how fast one TCP connection goes through it, and how much of a processor the thread that carries
//! the packets takes meanwhile.
//!
//! `cargo run --release -p netns-lab --example measure`
#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use netns_lab::{Engine, Host, HostSpec, Lab, LinkSpec, NatSpec};

/// Enough for a median that repeats.
const LABS: usize = 51;
const ROUND_TRIPS: usize = 51;

/// What the demo carries in each direction.
const TRANSFER: u64 = 64 << 20;

fn main() -> Result<ExitCode> {
    if let Some(code) = netns_lab::isolate()? {
        return Ok(code);
    }
    for engine in [Engine::Netfilter, Engine::Model] {
        measure(engine)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(engine: Engine) -> Result<()> {
    println!("{engine:?}");
    set_up_and_down(engine)?;
    let link = |delay| LinkSpec::delay(Duration::from_millis(delay));
    for delay in [0, 20] {
        let lab = Lab::builder()
            .host(
                HostSpec::new("a")
                    .behind(NatSpec::port_preserving())
                    .link(link(delay)),
            )
            .host(HostSpec::new("b").link(link(delay)))
            .engine(engine)
            .build()?;
        round_trips(&lab, delay)?;
        transfer(&lab, delay)?;
    }
    Ok(())
}

fn set_up_and_down(engine: Engine) -> Result<()> {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..LABS {
        let start = Instant::now();
        let lab = Lab::builder()
            .host(HostSpec::new("server"))
            .host(HostSpec::new("a").behind(NatSpec::port_preserving()))
            .host(HostSpec::new("b").behind(NatSpec::port_preserving()))
            .engine(engine)
            .build()?;
        up.push(start.elapsed());
        let start = Instant::now();
        lab.close()?;
        down.push(start.elapsed());
    }
    println!(
        "server, two NATs, two hosts: up {}, down {}",
        spread(&mut up),
        spread(&mut down)
    );
    Ok(())
}

fn round_trips(lab: &Lab, delay: u64) -> Result<()> {
    let (mut client, mut server) = connect(lab)?;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        let mut byte = [0];
        while server.read(&mut byte)? > 0 {
            server.write_all(&byte)?;
        }
        Ok(())
    });
    let mut times = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        client.write_all(&[1])?;
        client.read_exact(&mut [0])?;
        times.push(start.elapsed());
    }
    drop(client);
    echo.join().ok().context("the echo thread panicked")??;
    println!(
        "round trip with {} ms of delay: {}",
        4 * delay,
        spread(&mut times)
    );
    Ok(())
}

fn transfer(lab: &Lab, delay: u64) -> Result<()> {
    let (mut client, mut server) = connect(lab)?;
    let start = Instant::now();
    let busy_before = core_time()?;
    let sender = std::thread::spawn(move || -> io::Result<()> {
        io::copy(&mut io::repeat(7).take(TRANSFER), &mut client)?;
        Ok(())
    });
    let mut buffer = vec![0; 1 << 18];
    let mut received = 0;
    loop {
        let length = server.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        received += length as u64;
    }
    let took = start.elapsed();
    sender
        .join()
        .ok()
        .context("the sending thread panicked")??;
    anyhow::ensure!(received == TRANSFER, "{received} bytes arrived");
    let rate = received as f64 / took.as_secs_f64() / 1e6;
    let again = retransmissions(lab.host("a"))?;
    // Which does not depend on what else the machine does, as the rate does.
    let busy = (core_time()? - busy_before).as_secs_f64() / (received as f64 / 1e6);
    println!(
        "64 MiB with {} ms of round trip: {took:.3?}, {rate:.0} MB/s, {again} retransmissions, \
         {:.2} ms of processor time for each MB",
        4 * delay,
        busy * 1e3
    );
    Ok(())
}

/// Reads how long the thread that carries the packets of the newest lab has run so far.
fn core_time() -> Result<Duration> {
    let mut newest = None;
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?;
        let name = std::fs::read_to_string(task.path().join("comm"))?;
        let number: u32 = task.file_name().to_string_lossy().parse()?;
        if name.trim() == "netns-lab-core" {
            newest = newest.max(Some((number, task.path())));
        }
    }
    let (_, task) = newest.context("the lab has no thread")?;
    let text = std::fs::read_to_string(task.join("schedstat"))?;
    let nanos = text.split_whitespace().next().context("schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// Reads how many TCP segments a host has sent again; links without loss need none.
fn retransmissions(host: &Host) -> Result<u64> {
    let text = host.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, values) = (
        lines.next().context("names")?,
        lines.next().context("values")?,
    );
    let mut columns = names.split_whitespace().zip(values.split_whitespace());
    let column = columns.find(|(name, _)| *name == "RetransSegs");
    Ok(column.context("RetransSegs")?.1.parse()?)
}

fn connect(lab: &Lab) -> Result<(TcpStream, TcpStream)> {
    let (a, b): (&Host, &Host) = (lab.host("a"), lab.host("b"));
    let listener = b.run(|| TcpListener::bind((b.ipv4(), 0)))??;
    let address = listener.local_addr()?;
    let client = a.run(|| TcpStream::connect(address))??;
    client.set_nodelay(true)?;
    let (server, _) = listener.accept()?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

/// Returns the median and the greatest of some times.
fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    format!(
        "median {median:.2?}, worst {:.2?}",
        times.last().copied().unwrap_or_default()
    )
}
