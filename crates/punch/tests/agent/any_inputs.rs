//! Whatever the driver says, in whatever order: nothing panics, no limit is passed, and there is
//! one outcome by the end.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use p2pconnect_proto::{Candidate, Role};
use p2pconnect_punch::{
    Action, Base, CheckId, ConnectFailure, Event, Input, Opened, PunchAgent, PunchConfig,
    VerifyFailure,
};
use proptest::prelude::*;

use crate::rig::{P, Q, address, base, host, introduced, reflexive};

/// Twice the bound of a round at the round-trip time of these tests.
const LONG: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
enum Step {
    Wait(u16),
    Answer(u16, Answer),
    Accept(u8, u8),
}

#[derive(Debug, Clone)]
enum Answer {
    Connected(bool),
    Failed(usize),
    Used,
    Verified,
    NotVerified(usize),
}

const CONNECT_FAILURES: [ConnectFailure; 10] = [
    ConnectFailure::Refused,
    ConnectFailure::Reset,
    ConnectFailure::HostUnreachable,
    ConnectFailure::NetworkUnreachable,
    ConnectFailure::TimedOut,
    ConnectFailure::AddressInUse,
    ConnectFailure::AddressNotAvailable,
    ConnectFailure::NoResources,
    ConnectFailure::Withheld,
    ConnectFailure::Other,
];

const VERIFY_FAILURES: [VerifyFailure; 4] = [
    VerifyFailure::Stranger,
    VerifyFailure::WrongIdentity,
    VerifyFailure::Closed,
    VerifyFailure::TimedOut,
];

proptest! {
    #[test]
    fn nothing_a_driver_says_breaks_the_agent(
        controlling: bool,
        seed: [u8; 32],
        candidates in proptest::collection::vec((0u8..4, any::<bool>()), 0..16),
        steps in proptest::collection::vec(step(), 0..400),
    ) {
        let role = if controlling { Role::Controlling } else { Role::Controlled };
        let remote = candidates.into_iter().enumerate();
        let remote: Vec<_> = remote.map(|(n, (ip, spare))| candidate(n, ip, spare)).collect();
        let mut driver = Driver::new(role, &remote, seed);
        for step in steps {
            driver.take(step);
        }
        driver.finish();
    }
}

fn step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![
        any::<bool>().prop_map(Answer::Connected),
        (0..CONNECT_FAILURES.len()).prop_map(Answer::Failed),
        (0..CONNECT_FAILURES.len()).prop_map(Answer::Failed),
        Just(Answer::Used),
        // Seldom, or every run is over soon.
        (0u8..20).prop_map(|n| if n == 0 {
            Answer::Verified
        } else {
            Answer::NotVerified(n.into())
        }),
    ];
    prop_oneof![
        (0u16..200).prop_map(Step::Wait),
        (any::<u16>(), answer).prop_map(|(nth, answer)| Step::Answer(nth, answer)),
        (0u8..4, 0u8..40).prop_map(|(ip, port)| Step::Accept(ip, port)),
    ]
}

fn candidate(n: usize, ip: u8, spare: bool) -> Candidate {
    let punch_port = if spare { Q } else { P };
    match ip {
        0 => host(&format!("10.0.0.1:{}", 5000 + n), punch_port),
        1 => host(&format!("[2001:db8::5]:{}", 5000 + n), punch_port),
        _ => reflexive(&format!("198.51.100.{ip}:{}", 5000 + n), punch_port),
    }
}

struct Driver {
    agent: PunchAgent,
    start: Instant,
    now: Instant,
    seen: Vec<CheckId>,
    open: BTreeSet<CheckId>,
    connects: u32,
    outcomes: u32,
}

impl Driver {
    fn new(role: Role, remote: &[Candidate], seed: [u8; 32]) -> Self {
        let bases: [Base; 4] = [
            base("192.168.1.2:4000", P),
            base("192.168.1.2:4001", Q),
            base("[2001:db8::2]:4000", P),
            base("[2001:db8::2]:4001", Q),
        ];
        let start = Instant::now();
        let introduced = introduced(role, &bases, remote);
        let mut driver = Self {
            agent: PunchAgent::new(PunchConfig::default(), introduced, seed, start),
            start,
            now: start,
            seen: Vec::new(),
            open: BTreeSet::new(),
            connects: 0,
            outcomes: 0,
        };
        driver.drain();
        driver
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Wait(ms) => self.wait(Duration::from_millis(ms.into())),
            Step::Answer(nth, answer) => {
                let Some(nth) = usize::from(nth).checked_rem(self.seen.len()) else {
                    return;
                };
                let check = self.seen[self.seen.len() - 1 - nth];
                self.answer(check, &answer);
            }
            Step::Accept(ip, port) => {
                let local = address("192.168.1.2:4000");
                let remote = address(&format!("198.51.100.{ip}:{}", 5000 + u16::from(port)));
                if let Some(check) = self.agent.handle_accepted(local, remote, self.now) {
                    self.seen.push(check);
                    self.open.insert(check);
                }
            }
        }
        self.drain();
    }

    fn answer(&mut self, check: CheckId, answer: &Answer) {
        let input = match answer {
            Answer::Connected(actively) => Input::Connected {
                check,
                opened: if *actively {
                    Opened::Actively
                } else {
                    Opened::Simultaneously
                },
            },
            Answer::Failed(n) => {
                self.open.remove(&check);
                let failure = CONNECT_FAILURES[*n];
                Input::ConnectFailed { check, failure }
            }
            Answer::Used => Input::Used { check },
            Answer::Verified => Input::Verified { check },
            Answer::NotVerified(n) => Input::VerifyFailed {
                check,
                failure: VERIFY_FAILURES[n % VERIFY_FAILURES.len()],
            },
        };
        self.agent.handle_input(input, self.now);
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
            match action {
                Action::Connect { check, .. } => {
                    self.connects += 1;
                    self.seen.push(check);
                    assert!(self.open.insert(check), "a check id came twice");
                }
                Action::Verify { check } => assert!(self.seen.contains(&check)),
                Action::Close { check } => {
                    self.open.remove(&check);
                }
            }
        }
        while let Some(event) = self.agent.poll_event() {
            self.outcomes += 1;
            match event {
                Event::Established { check, .. } => assert!(self.open.is_subset(&[check].into())),
                Event::Failed(_) => assert!(self.open.is_empty()),
            }
        }
        assert!(self.connects <= 200, "too many SYNs");
        assert!(self.open.len() <= 64 + 16, "too many sockets");
    }

    fn finish(mut self) {
        self.wait(LONG);
        assert_eq!(self.outcomes, 1);
        assert_eq!(self.agent.poll_timeout(), None);
        assert!(self.now - self.start >= LONG);
    }
}
