//! Two peers, what is in front of them, the path between them, and a clock that jumps.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use p2pconnect_proto::Role;
use p2pconnect_punch::{Action, CheckId, Event, Input, PunchAgent, PunchConfig, Stats};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    access::Access,
    nat::{Inbound, is_private},
    packet::{Body, Message, Packet},
    peer::Peer,
    tcp::{FourTuple, Output},
};

/// When the kernel repeats an unanswered SYN or SYN-ACK (tcp_syn_linear_timeouts = 4).
const REPEATS: [u64; 5] = [1, 2, 3, 4, 6];

/// When a lost message is repeated: the least retransmission timeout of Linux plus a round trip.
const MESSAGE_REPEAT: Duration = Duration::from_millis(280);

/// More events than any run needs; an endless loop ends here.
const MAX_EVENTS: u32 = 100_000;

/// One run of the simulation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) controlling: Access,
    pub(crate) controlled: Access,
    /// How much later the controlled side starts, in microseconds; negative: earlier.
    pub(crate) skew_us: i64,
    pub(crate) one_way: Duration,
    /// The part of it between each host and its outermost box.
    pub(crate) last_mile: Duration,
    /// How many times longer the way by the coordinator is.
    pub(crate) detour: u32,
    /// Lost packets in 1000.
    pub(crate) loss: u32,
    pub(crate) seed: u64,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The controlling side's result, then the controlled side's, each with the time since the
    /// later side's start.
    pub(crate) ends: [(Event, Duration); 2],
    pub(crate) stats: [Stats; 2],
    /// Whether both sides hold the two ends of one connection.
    pub(crate) agree: bool,
    /// Whether an event was raised twice.
    pub(crate) again: bool,
}

#[derive(Debug)]
enum Occurrence {
    Start(usize),
    Wake(usize),
    Act(usize, Action),
    Leave(usize, Packet),
    Arrive(usize, Packet),
    Deliver(usize, Packet),
    Repeat(usize, FourTuple, u32),
}

/// Everything that happens, in the order of time.
pub(crate) struct World {
    scenario: Scenario,
    rng: ChaCha8Rng,
    epoch: Instant,
    now: Duration,
    order: u64,
    queue: BTreeMap<(Duration, u64), Occurrence>,
    peers: [Peer; 2],
}

/// Runs a scenario to its end.
pub(crate) fn run(scenario: Scenario) -> Outcome {
    let mut world = World::new(scenario);
    let mut events = 0;
    while let Some(((at, _), occurrence)) = world.queue.pop_first() {
        world.now = at;
        world.handle(occurrence);
        events += 1;
        assert!(events < MAX_EVENTS, "endless: {scenario:?}");
    }
    world.outcome()
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
        let mut peers = [
            Peer::new(0, scenario.controlling, &mut rng),
            Peer::new(1, scenario.controlled, &mut rng),
        ];
        let known: Vec<_> = peers.iter().map(|peer| peer.introduced.clone()).collect();
        for (peer, other) in peers.iter_mut().zip([1, 0]) {
            peer.introduced.remote_candidates = known[other].remote_candidates.clone();
            peer.introduced.remote_nat = known[other].local_nat;
            peer.introduced.relayed_rtt = scenario.one_way * 2 * scenario.detour;
        }
        let mut world = Self {
            scenario,
            rng,
            epoch: Instant::now(),
            now: Duration::ZERO,
            order: 0,
            queue: BTreeMap::new(),
            peers,
        };
        let late = Duration::from_micros(scenario.skew_us.unsigned_abs());
        let starts = if scenario.skew_us < 0 {
            [late, Duration::ZERO]
        } else {
            [Duration::ZERO, late]
        };
        for (side, start) in starts.into_iter().enumerate() {
            world.after(start, Occurrence::Start(side));
        }
        world
    }

    fn handle(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Start(side) => self.start(side),
            Occurrence::Wake(side) => {
                let now = self.epoch + self.now;
                let agent = self.peers[side]
                    .agent
                    .as_mut()
                    .expect("woken after its start");
                if agent.poll_timeout().is_some_and(|at| at <= now) {
                    agent.handle_timeout(now);
                    self.drain(side);
                }
            }
            Occurrence::Act(side, action) => self.act(side, action),
            Occurrence::Leave(side, packet) => self.leave(side, packet),
            Occurrence::Arrive(side, packet) => self.arrive(side, packet),
            Occurrence::Deliver(side, packet) => {
                let outputs = self.peers[side].host.receive(packet);
                self.carry_out(side, outputs);
            }
            Occurrence::Repeat(side, tuple, seq) => {
                let output = self.peers[side].host.repeat(tuple, seq);
                self.carry_out(side, output);
            }
        }
    }

    fn start(&mut self, side: usize) {
        let seed = self.rng.random();
        let now = self.epoch + self.now;
        let peer = &mut self.peers[side];
        let introduced = peer.introduced.clone();
        peer.agent = Some(PunchAgent::new(
            PunchConfig::default(),
            introduced,
            seed,
            now,
        ));
        self.drain(side);
        for tuple in std::mem::take(&mut self.peers[side].early) {
            self.accept(side, tuple);
        }
    }

    fn act(&mut self, side: usize, action: Action) {
        let peer = &mut self.peers[side];
        match action {
            Action::Connect {
                check,
                local,
                remote,
            } => {
                let outputs = peer.host.connect(check, FourTuple(local, remote));
                self.carry_out(side, outputs);
            }
            Action::Verify { check } => {
                peer.verifying.push(check);
                match peer.introduced.role {
                    Role::Controlling => {
                        let hello = peer.host.say(check, Message::Hello);
                        self.carry_out(side, hello);
                    }
                    Role::Controlled => self.go_on(side, check),
                }
            }
            Action::Close { check } => {
                let outputs = peer.host.close(check);
                self.carry_out(side, outputs);
            }
        }
    }

    /// Says what the driver has to say on a connection, after what it has heard.
    fn go_on(&mut self, side: usize, check: CheckId) {
        let peer = &self.peers[side];
        let Some(tuple) = peer.host.of_check(check) else {
            return;
        };
        if !peer.verifying.contains(&check) {
            return;
        }
        let heard = |message| peer.host.has_received(tuple, message);
        if heard(Message::Proof) || heard(Message::Nominate) {
            self.tell(side, Input::Verified { check });
        } else if heard(Message::Hello) {
            let proof = peer.host.say(check, Message::Proof);
            self.carry_out(side, proof);
        }
    }

    fn carry_out(&mut self, side: usize, outputs: impl IntoIterator<Item = Output>) {
        for output in outputs {
            match output {
                Output::Send(packet) => {
                    self.after(self.scenario.last_mile, Occurrence::Leave(side, packet))
                }
                Output::Repeat(tuple, seq) => {
                    for seconds in REPEATS {
                        let occurrence = Occurrence::Repeat(side, tuple, seq);
                        self.after(Duration::from_secs(seconds), occurrence);
                    }
                }
                Output::Connected(check, opened) => {
                    self.tell(side, Input::Connected { check, opened });
                }
                Output::ConnectFailed(check, failure) => {
                    self.tell(side, Input::ConnectFailed { check, failure });
                }
                Output::Broken(check, failure) => {
                    self.tell(side, Input::VerifyFailed { check, failure });
                }
                Output::Acceptable(tuple) if self.peers[side].agent.is_none() => {
                    self.peers[side].early.push(tuple);
                }
                Output::Acceptable(tuple) => self.accept(side, tuple),
                Output::Received(tuple) => {
                    if let Some(check) = self.peers[side].host.check_of(tuple) {
                        self.go_on(side, check);
                    }
                }
            }
        }
    }

    fn accept(&mut self, side: usize, tuple: FourTuple) {
        let now = self.epoch + self.now;
        let peer = &mut self.peers[side];
        let agent = peer.agent.as_mut().expect("the caller looked");
        let check = agent.handle_accepted(tuple.0, tuple.1, now);
        let outputs = peer.host.name(tuple, check);
        self.carry_out(side, outputs);
        self.drain(side);
    }

    fn tell(&mut self, side: usize, input: Input) {
        let now = self.epoch + self.now;
        let agent = self.peers[side]
            .agent
            .as_mut()
            .expect("it asked for the answer");
        agent.handle_input(input, now);
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        let mut actions = Vec::new();
        let peer = &mut self.peers[side];
        let agent = peer.agent.as_mut().expect("it has just been called");
        while let Some(action) = agent.poll_action() {
            actions.push(action);
        }
        let event = agent.poll_event();
        let wake = agent.poll_timeout();
        if let Some(event) = event {
            if let Event::Established { check, .. } = event
                && peer.introduced.role == Role::Controlling
            {
                let nomination = peer.host.say(check, Message::Nominate);
                self.carry_out(side, nomination);
            }
            let peer = &mut self.peers[side];
            peer.again |= peer.end.is_some();
            peer.end = Some((event, self.now));
        }
        if let Some(wake) = wake {
            let wait = wake.saturating_duration_since(self.epoch + self.now);
            assert!(!wait.is_zero(), "busy loop: {:?}", self.scenario);
            self.after(wait, Occurrence::Wake(side));
        }
        // A driver needs a moment for a system call, but carries its actions out in order.
        let pause = Duration::from_micros(self.rng.random_range(20..200));
        for action in actions {
            self.after(pause, Occurrence::Act(side, action));
        }
    }

    fn leave(&mut self, side: usize, packet: Packet) {
        let mut leaving = Some(packet);
        for nat in &mut self.peers[side].boxes {
            leaving = leaving.and_then(|packet| nat.outbound(packet, &mut self.rng));
        }
        let Some(outside) = leaving else {
            return;
        };
        if self.rng.random_range(0..1000) < self.scenario.loss {
            match packet.body {
                Body::Message { .. } => {
                    self.after(MESSAGE_REPEAT, Occurrence::Leave(side, packet));
                }
                Body::Syn { .. }
                | Body::SynAck { .. }
                | Body::Ack { .. }
                | Body::Rst { .. }
                | Body::Icmp { .. } => {}
            }
            return;
        }
        self.cross(1 - side, outside);
    }

    fn cross(&mut self, to: usize, packet: Packet) {
        if !is_private(packet.dst.ip()) && packet.dst.ip() == self.peers[to].public_ip {
            let crossing = self
                .scenario
                .one_way
                .saturating_sub(self.scenario.last_mile * 2);
            self.after(crossing, Occurrence::Arrive(to, packet));
        }
    }

    fn arrive(&mut self, side: usize, packet: Packet) {
        let mut entering = packet;
        let mut outermost = true;
        for nat in self.peers[side].boxes.iter_mut().rev() {
            match nat.inbound(entering) {
                Inbound::Pass(inside) => entering = inside,
                Inbound::Answer(answer) if outermost => return self.cross(1 - side, answer),
                Inbound::Answer(_) | Inbound::Drop => return,
            }
            outermost = false;
        }
        self.after(self.scenario.last_mile, Occurrence::Deliver(side, entering));
    }

    fn after(&mut self, wait: Duration, occurrence: Occurrence) {
        self.order += 1;
        self.queue.insert((self.now + wait, self.order), occurrence);
    }

    fn outcome(self) -> Outcome {
        let begin = Duration::from_micros(self.scenario.skew_us.unsigned_abs());
        let [first, second] = &self.peers;
        let winner = |peer: &Peer| match peer.end {
            Some((Event::Established { check, .. }, _)) => peer.host.established(check),
            Some((Event::Failed(_), _)) | None => None,
        };
        let agree = match (winner(first), winner(second)) {
            (Some((a, b)), Some((c, d))) => (a, b) == (d, c),
            (_, _) => false,
        };
        let stats = [first, second].map(|peer| peer.agent.as_ref().expect("started").stats());
        let again = first.again || second.again;
        let ends = self.peers.map(|peer| {
            let (event, at) = peer.end.expect("every agent comes to an end");
            (event, at.saturating_sub(begin))
        });
        Outcome {
            ends,
            stats,
            agree,
            again,
        }
    }
}
