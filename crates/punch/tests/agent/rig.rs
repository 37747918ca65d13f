//! An agent, a clock, and answers by hand.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use p2pconnect_proto::{Candidate, CandidateKind, NatMapping, NatReport, PunchPort, Role};
use p2pconnect_punch::{
    Action, Base, CheckId, ConnectFailure, Event, Input, Introduced, Opened, PunchAgent,
    PunchConfig, PunchReport, VerifyFailure,
};

pub(crate) const P: PunchPort = PunchPort::PRIMARY;
pub(crate) const Q: PunchPort = PunchPort::SPARE;

/// The peer behind a NAT, in all tests that need no other.
pub(crate) const PEER: &str = "198.51.100.7:5000";
pub(crate) const PEER_SPARE: &str = "198.51.100.7:5001";
pub(crate) const HERE: &str = "192.168.1.2:4000";
pub(crate) const HERE_SPARE: &str = "192.168.1.2:4001";

/// An agent and the clock it is told.
pub(crate) struct Rig {
    pub(crate) agent: PunchAgent,
    start: Instant,
    now: Instant,
}

impl Rig {
    pub(crate) fn new(introduced: Introduced) -> Self {
        let start = Instant::now();
        Self {
            agent: PunchAgent::new(PunchConfig::default(), introduced, [7; 32], start),
            start,
            now: start,
        }
    }

    /// A controlling side whose first pair is being dialled.
    pub(crate) fn dialling(role: Role) -> (Self, CheckId) {
        let mut rig = Self::new(behind_nats(role));
        let check = rig.connects()[0].0;
        (rig, check)
    }

    pub(crate) fn at(&mut self, ms: u64) -> &mut Self {
        self.now = self.start + Duration::from_millis(ms);
        self
    }

    /// Sets the clock.
    pub(crate) fn set(&mut self, now: Instant) {
        self.now = now;
    }

    /// Lets time pass up to `ms`, with every timeout on the way.
    pub(crate) fn run_to(&mut self, ms: u64) {
        let end = self.start + Duration::from_millis(ms);
        while let Some(at) = self.agent.poll_timeout().filter(|at| *at <= end) {
            assert!(at > self.now, "a timeout that does not advance");
            self.now = at;
            self.agent.handle_timeout(at);
        }
        self.now = end;
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.agent.poll_action()).collect()
    }

    pub(crate) fn connects(&mut self) -> Vec<(CheckId, SocketAddr, SocketAddr)> {
        let connect = |action| match action {
            Action::Connect {
                check,
                local,
                remote,
                ..
            } => Some((check, local, remote)),
            Action::Verify { .. } | Action::Close { .. } => None,
        };
        self.actions().into_iter().filter_map(connect).collect()
    }

    pub(crate) fn connected(&mut self, check: CheckId) {
        let opened = Opened::Simultaneously;
        self.agent
            .handle_input(Input::Connected { check, opened }, self.now);
    }

    pub(crate) fn failed(&mut self, check: CheckId, failure: ConnectFailure) {
        let input = Input::ConnectFailed { check, failure };
        self.agent.handle_input(input, self.now);
    }

    pub(crate) fn used(&mut self, check: CheckId) {
        self.agent.handle_input(Input::Used { check }, self.now);
    }

    pub(crate) fn verified(&mut self, check: CheckId) {
        self.agent.handle_input(Input::Verified { check }, self.now);
    }

    pub(crate) fn not_verified(&mut self, check: CheckId, failure: VerifyFailure) {
        let input = Input::VerifyFailed { check, failure };
        self.agent.handle_input(input, self.now);
    }

    pub(crate) fn accepted(&mut self, remote: &str) -> Option<CheckId> {
        self.agent
            .handle_accepted(address(HERE), address(remote), self.now)
    }

    pub(crate) fn give_up(&mut self) {
        self.agent.give_up(self.now);
    }

    pub(crate) fn learn(&mut self, nat: NatReport) {
        self.agent.handle_input(Input::LocalNat(nat), self.now);
    }

    /// Returns the report of the failure that must have happened by now.
    pub(crate) fn report(&mut self) -> PunchReport {
        match self.agent.poll_event().unwrap() {
            Event::Failed(report) => *report,
            Event::Established { .. } => panic!("established"),
        }
    }
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn base(text: &str, punch_port: PunchPort) -> Base {
    let address = address(text);
    Base {
        address,
        punch_port,
    }
}

pub(crate) fn host(text: &str, punch_port: PunchPort) -> Candidate {
    Candidate::host(address(text), punch_port)
}

pub(crate) fn reflexive(text: &str, punch_port: PunchPort) -> Candidate {
    Candidate {
        kind: CandidateKind::ServerReflexive,
        ..host(text, punch_port)
    }
}

pub(crate) fn introduced(role: Role, bases: &[Base], remote: &[Candidate]) -> Introduced {
    Introduced {
        role,
        routes: Default::default(),
        unrouted: Default::default(),
        translated: Default::default(),
        bases: bases.to_vec(),
        remote_candidates: remote.to_vec(),
        may_be_reached: false,
        families_apart: false,
        rtt_via_coordinator: Duration::from_millis(80),
        local_nat: NatReport::default(),
        remote_nat: NatReport::default(),
    }
}

/// Both peers behind NATs, with two punch ports each and 80 ms between them.
pub(crate) fn behind_nats(role: Role) -> Introduced {
    let bases = [base(HERE, P), base(HERE_SPARE, Q)];
    introduced(
        role,
        &bases,
        &[reflexive(PEER, P), reflexive(PEER_SPARE, Q)],
    )
}

pub(crate) fn maps(mapping: NatMapping) -> NatReport {
    NatReport {
        mapping: Some(mapping),
        ..NatReport::default()
    }
}
