//! Scenarios in virtual time.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{DialEnd, DialRun, RunError, Seen};
use crate::{
    contender::Contender,
    scenario::{Dial, Play, Scenario},
    topology::Plan,
    virtual_time::{Failure, HostId, Opening, SocketError, SocketId, SocketState, World},
};

/// What a dial sends each time.
pub(super) const LINE: &[u8] = b"hello\n";

pub(super) fn run(
    scenario: &Scenario,
    seed: u64,
    contender: Result<&dyn Contender, RunError>,
) -> Result<Seen, RunError> {
    let mut world = World::build(&scenario.topology, seed)?;
    for step in &scenario.steps {
        if !world.change_at(step.at, &step.place, step.change) {
            return Err(no_place(&step.place));
        }
    }
    let mut listeners = Vec::new();
    for (name, port) in &scenario.listeners {
        let host = find(&world, name)?;
        listeners.push(world.listen(host, *port).map_err(of_host(name))?);
    }
    match &scenario.play {
        Play::Punch(hosts) => {
            let dialled = contender?.dial_in_world(world, hosts, seed);
            let (outcome, log) = dialled.map_err(RunError::Contender)?;
            Ok(Seen::punch(outcome, log))
        }
        Play::Dials(dials) => Stage::new(world, scenario, dials, listeners)?.play(scenario),
    }
}

fn no_place(name: &str) -> RunError {
    RunError::NoPlace { name: name.into() }
}

fn of_host(name: &str) -> impl FnOnce(SocketError) -> RunError {
    let host = name.to_owned();
    move |source| RunError::Host { host, source }
}

fn find(world: &World, name: &str) -> Result<HostId, RunError> {
    world.find_host(name).ok_or_else(|| no_place(name))
}

/// A world with dials in it.
struct Stage<'s> {
    world: World,
    dials: &'s [Dial],
    /// Both ends of each dial, and its socket once it has one.
    ends: Vec<(HostId, SocketAddr, SocketAddr)>,
    sockets: Vec<Option<SocketId>>,
    /// Attempts that ended at once.
    failed: Vec<Option<Failure>>,
    listeners: Vec<SocketId>,
    accepted: Vec<SocketId>,
    /// Bytes sent to a host, and come there.
    sent: BTreeMap<String, usize>,
    received: BTreeMap<HostId, usize>,
}

impl<'s> Stage<'s> {
    fn new(
        world: World,
        scenario: &Scenario,
        dials: &'s [Dial],
        listeners: Vec<SocketId>,
    ) -> Result<Self, RunError> {
        let plan = Plan::new(&scenario.topology, 0);
        let place = |name: &str| {
            let mut nodes = plan.nodes.iter();
            let place = nodes.position(|node| &*node.name == name);
            place.ok_or_else(|| no_place(name))
        };
        let mut ends = Vec::new();
        for dial in dials {
            let local = plan.nodes[place(&dial.from)?].ipv4();
            let remote = plan.external_ipv4(place(&dial.to)?);
            let host = find(&world, &dial.from)?;
            let local = (local, dial.from_port).into();
            ends.push((host, local, (remote, dial.to_port).into()));
        }
        Ok(Self {
            listeners,
            world,
            dials,
            ends,
            sockets: vec![None; dials.len()],
            failed: vec![None; dials.len()],
            accepted: Vec::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
        })
    }

    fn play(mut self, scenario: &Scenario) -> Result<Seen, RunError> {
        let mut acts = Vec::new();
        for (number, dial) in self.dials.iter().enumerate() {
            acts.push((dial.at, number, false));
            acts.extend(dial.send_at.iter().map(|&at| (at, number, true)));
        }
        // A dial comes before what is sent over it at the same time.
        acts.sort_by_key(|&(at, _, sends)| (at, sends));
        for (at, number, sends) in acts {
            if at > scenario.limit {
                break;
            }
            while self.world.step(at) {
                self.listen();
            }
            if sends {
                self.send(number);
            } else {
                self.connect(number)?;
            }
        }
        let last_step = scenario.steps.last().map_or(Duration::ZERO, |step| step.at);
        loop {
            self.listen();
            let is_over = self.world.now() >= last_step && self.is_over();
            if is_over || !self.world.step(scenario.limit) {
                break;
            }
        }
        let dials = (0..self.dials.len()).map(|number| self.end(number));
        Ok(Seen {
            dials: dials.collect(),
            punch: None,
            log: self.world.log().clone(),
        })
    }

    fn connect(&mut self, number: usize) -> Result<(), RunError> {
        let (host, local, remote) = self.ends[number];
        match self.world.connect(host, local, remote) {
            Ok(socket) => self.sockets[number] = Some(socket),
            Err(SocketError::Failed(failure)) => self.failed[number] = Some(failure),
            Err(error) => return Err(of_host(&self.dials[number].from)(error)),
        }
        Ok(())
    }

    fn send(&mut self, number: usize) {
        *self.sent.entry(self.dials[number].to.clone()).or_default() += LINE.len();
        if let Some(socket) = self.sockets[number] {
            // What cannot be sent is not delivered either, which is seen later.
            let _sent = self.world.send(socket, LINE);
        }
    }

    /// Takes what has come to hosts.
    fn listen(&mut self) {
        for &listener in &self.listeners {
            while let Some(accepted) = self.world.accept(listener) {
                self.accepted.push(accepted.socket);
            }
        }
        if self.sent.is_empty() {
            return;
        }
        let mut buffer = [0; 512];
        let sockets = self.accepted.iter().chain(self.sockets.iter().flatten());
        for &socket in sockets {
            while let Ok(Some(count @ 1..)) = self.world.recv(socket, &mut buffer) {
                *self.received.entry(socket.host()).or_default() += count;
            }
        }
    }

    fn is_over(&self) -> bool {
        let is_connecting =
            |socket: &SocketId| self.world.state(*socket) == Ok(SocketState::Connecting);
        !self.sockets.iter().flatten().any(is_connecting)
            && self.sent.keys().all(|host| self.is_delivered(host))
    }

    fn is_delivered(&self, name: &str) -> bool {
        let sent = self.sent.get(name).copied().unwrap_or_default();
        let host = self.world.find_host(name);
        let received = host.and_then(|host| self.received.get(&host));
        received.copied().unwrap_or_default() >= sent
    }

    fn end(&self, number: usize) -> DialRun {
        let socket = self.sockets[number];
        let opened = socket.and_then(|socket| self.world.opened(socket).ok().flatten());
        let state = socket.and_then(|socket| self.world.state(socket).ok());
        let failure = match state {
            Some(SocketState::Failed(failure)) => Some(failure),
            _ => self.failed[number],
        };
        let end = match (opened, failure) {
            (Some(_), _) => DialEnd::Connected,
            (None, Some(failure)) => classify(failure),
            (None, None) => DialEnd::Unanswered,
        };
        DialRun {
            end,
            how: opened.map(|(opening, _)| word(opening).to_owned()),
            at: opened.map(|(_, at)| at),
            delivered: self.is_delivered(&self.dials[number].to),
        }
    }
}

const fn classify(failure: Failure) -> DialEnd {
    match failure {
        Failure::Refused | Failure::Reset => DialEnd::Refused,
        Failure::TimedOut => DialEnd::Unanswered,
        _ => DialEnd::Unreachable,
    }
}

const fn word(opening: Opening) -> &'static str {
    match opening {
        Opening::Simultaneous => "simultaneous-open",
        Opening::Passive => "accepted",
        Opening::Active => "connected",
    }
}
