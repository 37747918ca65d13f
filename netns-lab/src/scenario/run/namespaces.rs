//! Scenarios between real kernels.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::{DialEnd, DialRun, RunError, Seen, virtual_time::LINE};
use crate::{
    Engine, Host, Lab,
    contender::Contender,
    scenario::{Change, Dial, Play, Punch, Scenario},
};

/// How often those who wait for packets look whether the run is over.
const TICK: Duration = Duration::from_millis(20);

/// What the threads of a run share.
struct Stage<'s> {
    hosts: BTreeMap<&'s str, &'s Host>,
    start: Instant,
    limit: Duration,
    /// Bytes that were sent to each host and have not come there yet.
    missing: Mutex<BTreeMap<&'s str, usize>>,
}

/// The end of the run: every thread waits with its own receiver.
type End = Receiver<()>;

pub(super) fn run(
    scenario: &Scenario,
    engine: Engine,
    seed: u64,
    contender: Result<&dyn Contender, RunError>,
) -> Result<Seen, RunError> {
    let lab = Lab::builder()
        .topology(scenario.topology())
        .engine(engine)
        .seed(seed)
        .log(true)
        .build()?;
    match &scenario.play {
        Play::Dials(dials) => run_dials(scenario, dials, &lab),
        Play::Punch(hosts) => run_punch(scenario, hosts, &lab, contender?),
    }
}

fn run_punch(
    scenario: &Scenario,
    hosts: &Punch,
    lab: &Lab,
    contender: &dyn Contender,
) -> Result<Seen, RunError> {
    let stage = Stage {
        hosts: BTreeMap::new(),
        start: Instant::now(),
        limit: scenario.limit,
        missing: Mutex::new(BTreeMap::new()),
    };
    let outcomes = thread::scope(|scope| {
        let steps = scope.spawn(|| stage.make_steps(scenario, lab));
        let outcomes = contender.dial_in_lab(lab, hosts, 1);
        let steps = steps.join();
        steps.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        outcomes.map_err(RunError::Contender)
    })?;
    let outcome = outcomes.into_iter().next();
    let outcome = outcome.ok_or_else(|| RunError::Contender("it has told no outcome".into()))?;
    Ok(Seen::punch(outcome, lab.log()))
}

fn run_dials(scenario: &Scenario, dials: &[Dial], lab: &Lab) -> Result<Seen, RunError> {
    let mut missing = BTreeMap::new();
    for dial in dials {
        *missing.entry(dial.to.as_str()).or_default() += dial.send_at.len() * LINE.len();
    }
    let mut listeners = Vec::new();
    for (name, port) in &scenario.listeners {
        listeners.push((name.as_str(), listen(lab.host(name), *port)?));
    }
    let ends = dials.iter().flat_map(|dial| [&dial.from, &dial.to]);
    let stage = Stage {
        hosts: ends.map(|name| (name.as_str(), lab.host(name))).collect(),
        start: Instant::now(),
        limit: scenario.limit,
        missing: Mutex::new(missing),
    };
    let dials = stage.play(scenario, lab, dials, &listeners)?;
    Ok(Seen {
        dials,
        punch: None,
        log: lab.log(),
    })
}

/// Listens without waiting for anybody.
fn listen(host: &Host, port: u16) -> Result<TcpListener, RunError> {
    let listener = host.run(|| {
        let listener = TcpListener::bind((host.ipv4(), port))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener?.map_err(|source| of_host(host, source))
}

fn of_host(host: &Host, source: io::Error) -> RunError {
    let host = host.name().to_owned();
    RunError::System { host, source }
}

impl<'s> Stage<'s> {
    fn play(
        &self,
        scenario: &'s Scenario,
        lab: &Lab,
        dials: &'s [Dial],
        listeners: &[(&'s str, TcpListener)],
    ) -> Result<Vec<DialRun>, RunError> {
        thread::scope(|scope| {
            let mut ends = Vec::new();
            let mut end = || {
                let (sender, end) = mpsc::channel();
                ends.push(sender);
                end
            };
            for (name, listener) in listeners {
                let end = end();
                scope.spawn(move || self.serve(name, listener, &end));
            }
            let dials: Vec<_> = dials
                .iter()
                .map(|dial| {
                    let end = end();
                    let (sender, result) = mpsc::channel();
                    scope.spawn(move || self.dial(dial, &sender, &end));
                    (dial, result)
                })
                .collect();
            let steps = self.make_steps(scenario, lab);
            let results: Vec<_> = dials.iter().map(|(_, result)| result.recv().ok()).collect();
            while !self.is_complete() && self.start.elapsed() < self.limit {
                thread::park_timeout(TICK);
            }
            drop(ends);
            steps?;
            let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut runs = Vec::new();
            for ((dial, _), result) in dials.iter().zip(results) {
                let lost = || of_host(self.hosts[dial.from.as_str()], io::ErrorKind::Other.into());
                let mut run = result.ok_or_else(lost)??;
                run.delivered = missing.get(dial.to.as_str()) == Some(&0);
                runs.push(run);
            }
            Ok(runs)
        })
    }

    /// Returns whether all that was sent has come.
    fn is_complete(&self) -> bool {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.values().all(|missing| *missing == 0)
    }

    fn received(&self, name: &str, count: usize) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(missing) = missing.get_mut(name) {
            *missing = missing.saturating_sub(count);
        }
    }

    /// Waits until a moment of the run; that is what a scenario asks for.
    fn wait_until(&self, at: Duration) {
        while let Some(left) = at.min(self.limit).checked_sub(self.start.elapsed())
            && !left.is_zero()
        {
            thread::park_timeout(left);
        }
    }

    fn make_steps(&self, scenario: &Scenario, lab: &Lab) -> Result<(), RunError> {
        for step in &scenario.steps {
            self.wait_until(step.at);
            match step.change {
                Change::Reboot => lab.nat_named(&step.place).flush()?,
                Change::LinkDown => lab.set_link_up(&step.place, false)?,
                Change::LinkUp => lab.set_link_up(&step.place, true)?,
            }
        }
        Ok(())
    }

    /// Reads what comes over the connections to a listener until the end.
    fn serve(&self, name: &str, listener: &TcpListener, end: &End) {
        let mut streams = Vec::new();
        while end.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
            while let Ok((stream, _)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok() {
                    streams.push(stream);
                }
            }
            for stream in &mut streams {
                let mut buffer = [0; 512];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    self.received(name, count);
                }
            }
        }
    }

    /// Connects, tells of it, and keeps the connection until the end.
    fn dial(&self, dial: &Dial, result: &mpsc::Sender<Result<DialRun, RunError>>, end: &End) {
        self.wait_until(dial.at);
        let host = self.hosts[dial.from.as_str()];
        let to = (self.hosts[dial.to.as_str()].external_ipv4(), dial.to_port).into();
        let left = self.limit.saturating_sub(self.start.elapsed()).max(TICK);
        let connected = host.run(|| connect(host, dial.from_port, to, left));
        let (run, socket) = match connected {
            Ok(Ok(socket)) => {
                let at = Some(self.start.elapsed());
                (Ok(dial_run(DialEnd::Connected, at)), Some(socket))
            }
            Ok(Err(error)) => {
                let ended = classify(&error).map(|end| dial_run(end, None));
                (ended.ok_or_else(|| of_host(host, error)), None)
            }
            Err(error) => (Err(error.into()), None),
        };
        // The run waits for it.
        let _sent = result.send(run);
        let Some(mut socket) = socket else {
            return;
        };
        for at in &dial.send_at {
            self.wait_until(*at);
            // What cannot be sent is missed at the other end.
            let _sent = socket.write(LINE);
        }
        if socket.set_nonblocking(true).is_err() {
            return;
        }
        while end.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
            let mut buffer = [0; 512];
            while let Ok(count @ 1..) = socket.read(&mut buffer) {
                self.received(&dial.from, count);
            }
        }
    }
}

const fn dial_run(end: DialEnd, at: Option<Duration>) -> DialRun {
    DialRun {
        end,
        how: None,
        at,
        delivered: false,
    }
}

fn connect(host: &Host, port: u16, to: SocketAddr, left: Duration) -> io::Result<Socket> {
    let from = SocketAddr::from((host.ipv4(), port));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&to.into(), left)?;
    Ok(socket)
}

fn classify(error: &io::Error) -> Option<DialEnd> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Some(DialEnd::Refused),
        io::ErrorKind::TimedOut => Some(DialEnd::Unanswered),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::PermissionDenied => Some(DialEnd::Unreachable),
        _ => None,
    }
}
