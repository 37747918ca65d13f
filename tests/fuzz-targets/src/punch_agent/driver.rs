//! A driver without sockets, which checks what the agent asks of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use p2pconnect_proto::{NatReport, Role};
use p2pconnect_punch::{
    Action, CheckId, ConnectFailure, Event, Input, Introduced, Opened, PunchAgent, PunchConfig,
    Purpose, VerifyFailure,
};

/// The most pairs that are neither planned nor learnt from those who connect.
const MAX_PAIRS: usize = 64;

/// The most attempts of a plan that are no guesses.
const MAX_PLANNED: usize = 8;

/// The most pairs that are learnt from those who connect.
const MAX_LEARNT: usize = 8;

/// The most open connections of a scope, and verifications at a time, but for the controlled side's
/// guesses.
const MAX_CONNECTIONS: usize = 16;
const MAX_VERIFYING: usize = 8;

/// The longest round-trip time that is believed.
const MAX_RTT: Duration = Duration::from_secs(3);

/// What a driver says, or lets pass. Checks are counted from the newest.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Wait(Duration),
    Connected(u16, bool),
    Failed(u16, ConnectFailure),
    Accept {
        local: usize,
        remote: SocketAddr,
    },
    Used(u16),
    Verified(u16),
    NotVerified(u16, VerifyFailure),
    Learn(NatReport),
    GiveUp,
    /// The driver's clock is late for one call.
    GoBack(Duration),
}

/// A socket that the agent has asked for, or taken in.
#[derive(Debug, Clone, Copy)]
struct Socket {
    is_guess: bool,
    /// From where to where it connects, unless it is open.
    attempt: Option<(SocketAddr, SocketAddr)>,
}

/// Has an agent driven, and looks at all that it wants.
pub(super) struct Driver {
    agent: PunchAgent,
    role: Role,
    /// The local addresses.
    locals: Vec<SocketAddr>,
    start: Instant,
    now: Instant,
    ends_at: Instant,
    seen: Vec<CheckId>,
    sockets: BTreeMap<CheckId, Socket>,
    verifying: BTreeSet<CheckId>,
    /// Which verifications have ever begun.
    verified: BTreeSet<CheckId>,
    syns: [u32; 2],
    /// How many of them the driver has withheld.
    withheld: u32,
    max_syns: [u32; 2],
    guesses: usize,
    is_over: bool,
    /// What has happened, with the time.
    trace: Vec<String>,
}

impl Driver {
    pub(super) fn new(config: PunchConfig, introduced: Introduced, seed: [u8; 32]) -> Self {
        let start = Instant::now();
        let role = introduced.role;
        let rtt = introduced.rtt_via_coordinator.min(MAX_RTT);
        let nomination_patience = match role {
            Role::Controlling => 1,
            Role::Controlled => 3,
        };
        let longest = config.round_timeout.max(rtt * 6)
            + config.attempt_min.max(rtt * 4)
            + config.verify_timeout.max(rtt * 6) * nomination_patience;
        let locals = introduced.bases.iter().map(|base| base.address).collect();
        let budgets = (config.max_syns, config.max_guess_syns);
        let max_guesses = config.max_guesses;
        let agent = PunchAgent::new(config, introduced, seed, start);
        assert!(agent.guesses() <= max_guesses);
        let mut driver = Self {
            role,
            locals,
            start,
            now: start,
            ends_at: start + longest,
            seen: Vec::new(),
            sockets: BTreeMap::new(),
            verifying: BTreeSet::new(),
            verified: BTreeSet::new(),
            syns: [0; 2],
            withheld: 0,
            // Half as many again go to addresses inside networks, and as many guesses.
            max_syns: [
                budgets.0 + budgets.0 / 2,
                2 * budgets.1.max(agent.guesses()),
            ],
            guesses: agent.guesses() as usize,
            is_over: false,
            trace: Vec::new(),
            agent,
        };
        driver.drain();
        driver
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Wait(wait) => self.wait(wait),
            Step::Connected(nth, actively) => {
                let opened = if actively {
                    Opened::Actively
                } else {
                    Opened::Simultaneously
                };
                self.say(nth, |check| Input::Connected { check, opened });
            }
            Step::Failed(nth, failure) => {
                self.say(nth, |check| Input::ConnectFailed { check, failure });
            }
            Step::Accept { local, remote } => self.accept(local, remote),
            Step::Used(nth) => self.say(nth, |check| Input::Used { check }),
            Step::Verified(nth) => self.say(nth, |check| Input::Verified { check }),
            Step::NotVerified(nth, failure) => {
                self.say(nth, |check| Input::VerifyFailed { check, failure });
            }
            Step::Learn(nat) => self.agent.handle_input(Input::LocalNat(nat), self.now),
            Step::GiveUp => self.agent.give_up(self.now),
            Step::GoBack(by) => {
                let then = self.now.checked_sub(by).unwrap_or(self.start);
                self.agent.handle_timeout(then);
            }
        }
        self.drain();
    }

    /// Says something about the n-th newest check.
    fn say(&mut self, nth: u16, input: impl Fn(CheckId) -> Input) {
        let Some(nth) = usize::from(nth).checked_rem(self.seen.len()) else {
            return;
        };
        let check = self.seen[self.seen.len() - 1 - nth];
        let input = input(check);
        match input {
            Input::Connected { .. } => {
                if let Some(socket) = self.sockets.get_mut(&check) {
                    socket.attempt = None;
                }
            }
            // The driver closes a socket that does not connect; what the agent says of an open one
            // counts.
            Input::ConnectFailed { failure, .. } => {
                let is_attempt = |it: &Socket| it.attempt.is_some();
                if self.sockets.get(&check).is_some_and(is_attempt) {
                    self.sockets.remove(&check);
                    self.withheld += u32::from(failure == ConnectFailure::Withheld);
                }
            }
            Input::Used { .. } => {
                self.verifying.remove(&check);
            }
            Input::Verified { .. } | Input::VerifyFailed { .. } | Input::LocalNat(_) => {}
        }
        self.agent.handle_input(input, self.now);
    }

    fn accept(&mut self, local: usize, remote: SocketAddr) {
        let Some(at) = local.checked_rem(self.locals.len()) else {
            return;
        };
        if let Some(check) = self
            .agent
            .handle_accepted(self.locals[at], remote, self.now)
        {
            assert!(!self.is_over, "nobody is taken in any more");
            self.seen.push(check);
            let socket = Socket {
                is_guess: false,
                attempt: None,
            };
            assert!(self.sockets.insert(check, socket).is_none());
        }
    }

    fn wait(&mut self, wait: Duration) {
        let end = self.now + wait;
        while let Some(at) = self.agent.poll_timeout().filter(|at| *at <= end) {
            assert!(at > self.now, "a timeout that does not advance");
            self.now = at;
            self.agent.handle_timeout(at);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(action) = self.agent.poll_action() {
            let at = self.now - self.start;
            self.trace.push(format!("{at:?} {action:?}"));
            self.carry_out(action);
        }
        while let Some(event) = self.agent.poll_event() {
            assert!(!self.is_over, "a second outcome: {event:?}");
            self.is_over = true;
            self.end(&event);
            self.trace.push(format!("{event:?}"));
        }
        assert_eq!(self.agent.has_ended(), self.is_over);
        assert!(self.is_over || self.now < self.ends_at);
        self.check_limits();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect {
                check,
                local,
                remote,
                purpose,
            } => {
                let is_guess = purpose == Purpose::Guess;
                self.syns[usize::from(is_guess)] += 1;
                let ours = self.locals.iter().any(|it| it.ip() == local.ip());
                assert!(ours && local.port() != 0 && remote.port() != 0);
                assert_eq!(local.is_ipv4(), remote.is_ipv4());
                let attempt = Some((local, remote));
                let mut others = self.sockets.values();
                assert!(
                    others.all(|it| it.attempt != attempt),
                    "two attempts from {local} to {remote} at once"
                );
                self.seen.push(check);
                let socket = Socket { is_guess, attempt };
                assert!(self.sockets.insert(check, socket).is_none());
            }
            Action::Verify { check } => {
                let socket = self.sockets[&check];
                assert!(socket.attempt.is_none(), "{check} is not open");
                assert!(self.verified.insert(check), "{check} is verified again");
                if !(socket.is_guess && self.role == Role::Controlled) {
                    self.verifying.insert(check);
                }
            }
            Action::Close { check } => {
                self.sockets.remove(&check);
                self.verifying.remove(&check);
            }
        }
    }

    fn end(&self, event: &Event) {
        let open: Vec<_> = self.sockets.keys().collect();
        match event {
            Event::Established { check, .. } => assert_eq!(open, [check], "others are open"),
            Event::Failed(report) => {
                assert!(open.is_empty(), "{open:?} are open");
                assert!(report.pairs.len() <= MAX_PAIRS + MAX_PLANNED + MAX_LEARNT + self.guesses);
                assert!(!report.to_string().is_empty());
            }
        }
    }

    fn check_limits(&self) {
        for (syns, most) in self.syns.iter().zip(self.max_syns) {
            assert!(*syns <= most, "{syns} SYNs of {most}");
        }
        let scopes = match self.role {
            Role::Controlling => 1,
            Role::Controlled => 2,
        };
        let most = MAX_PAIRS + MAX_PLANNED + self.guesses + scopes * MAX_CONNECTIONS;
        assert!(self.sockets.len() <= most, "{} sockets", self.sockets.len());
        assert!(self.verifying.len() <= scopes * MAX_VERIFYING);
        let stats = self.agent.stats();
        let sent = self.syns.iter().sum::<u32>() - self.withheld;
        assert_eq!(stats.attempts, sent);
    }

    /// Lets all pass that is still to come, and returns what has happened.
    pub(super) fn finish(mut self) -> Vec<String> {
        self.wait(self.ends_at.saturating_duration_since(self.now));
        assert!(self.is_over, "no outcome");
        assert_eq!(self.agent.poll_timeout(), None);
        self.trace
    }
}
