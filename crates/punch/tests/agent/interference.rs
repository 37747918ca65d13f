//! Whoever dials names addresses inside the callee's network, and sees what the callee sends to
//! him. He must not see from that what is there.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use p2pconnect_proto::{Candidate, NatReport, Role};
use p2pconnect_punch::{Action, CheckId, ConnectFailure, Event, Introduced, VerifyFailure};

use crate::rig::{
    HERE, HERE_SPARE, P, PEER, PEER_SPARE, Q, Rig, address, base, host, introduced, maps, reflexive,
};

/// What there is at the addresses inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A host without that port.
    Closed,
    /// A router that says so.
    Prohibited,
    /// No route on the callee's own machine.
    NoRoute,
    /// Somebody who accepts and says nothing.
    Silent,
    /// Somebody who accepts and hangs up.
    HangsUp,
    /// Somebody who accepts and says something else.
    SaysSomethingElse,
}

const ALL: [Found; 7] = [
    Found::Nothing,
    Found::Closed,
    Found::Prohibited,
    Found::NoRoute,
    Found::Silent,
    Found::HangsUp,
    Found::SaysSomethingElse,
];

/// What the network answers.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Fails(CheckId, ConnectFailure),
    Opens(CheckId),
    IsNotThePeer(CheckId, VerifyFailure),
    /// A connection comes from the dialler.
    Comes,
}

impl Answer {
    const fn check(self) -> Option<CheckId> {
        match self {
            Self::Fails(check, _) | Self::Opens(check) | Self::IsNotThePeer(check, _) => {
                Some(check)
            }
            Self::Comes => None,
        }
    }
}

/// What the dialler sees: what the callee does towards him and when, whether it takes a connection
/// of his, and when the introduction is over.
type Seen = (
    Vec<(Duration, SocketAddr, Option<SocketAddr>)>,
    bool,
    Duration,
);

/// One run of a callee's agent, with a network around it.
struct World {
    rig: Rig,
    found: Found,
    began: Instant,
    now: Instant,
    answers: BTreeMap<(Instant, u32), Answer>,
    asked: u32,
    remotes: BTreeMap<CheckId, SocketAddr>,
    seen: Vec<(Duration, SocketAddr, Option<SocketAddr>)>,
    is_taken: bool,
}

impl World {
    fn new(introduced: Introduced, found: Found) -> Self {
        let rig = Rig::new(introduced);
        let began = rig.now();
        Self {
            rig,
            found,
            began,
            now: began,
            answers: BTreeMap::new(),
            asked: 0,
            remotes: BTreeMap::new(),
            seen: Vec::new(),
            is_taken: false,
        }
    }

    fn answer(&mut self, after: Duration, answer: Answer) {
        self.asked += 1;
        self.answers.insert((self.now + after, self.asked), answer);
    }

    fn perform(&mut self, action: Action) {
        let at = self.now - self.began;
        let ms = Duration::from_millis;
        match action {
            Action::Connect {
                check,
                local,
                remote,
                ..
            } => {
                self.remotes.insert(check, remote);
                if remote.ip() == address(PEER).ip() {
                    self.seen.push((at, local, Some(remote)));
                    // His NAT, so that he sees how soon the callee tries again.
                    let refused = Answer::Fails(check, ConnectFailure::Refused);
                    return self.answer(ms(80), refused);
                }
                let answer = match self.found {
                    Found::Nothing => return,
                    Found::Closed => Answer::Fails(check, ConnectFailure::Refused),
                    Found::Prohibited => Answer::Fails(check, ConnectFailure::HostUnreachable),
                    Found::NoRoute => {
                        let failed = Answer::Fails(check, ConnectFailure::NetworkUnreachable);
                        return self.answer(Duration::ZERO, failed);
                    }
                    Found::Silent | Found::HangsUp | Found::SaysSomethingElse => {
                        Answer::Opens(check)
                    }
                };
                self.answer(ms(1), answer);
            }
            Action::Verify { check } => {
                let failure = match self.found {
                    _ if self.remotes.get(&check) == Some(&address(PEER)) => VerifyFailure::Closed,
                    Found::HangsUp => VerifyFailure::Closed,
                    Found::SaysSomethingElse => VerifyFailure::Stranger,
                    _ => return,
                };
                self.answer(ms(5), Answer::IsNotThePeer(check, failure));
            }
            Action::Close { check } => {
                if let Some(remote) = self.remotes.get(&check)
                    && remote.ip() == address(PEER).ip()
                {
                    self.seen.push((at, *remote, None));
                }
                self.answers
                    .retain(|_, answer| answer.check() != Some(check));
            }
        }
    }

    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Fails(check, failure) => self.rig.failed(check, failure),
            Answer::Opens(check) => self.rig.connected(check),
            Answer::IsNotThePeer(check, failure) => self.rig.not_verified(check, failure),
            Answer::Comes => {
                if let Some(check) = self.rig.accepted(PEER) {
                    self.is_taken = true;
                    self.remotes.insert(check, address(PEER));
                }
            }
        }
    }

    fn run(mut self) -> Seen {
        self.answer(Duration::from_secs(1), Answer::Comes);
        loop {
            let mut actions = VecDeque::from(self.rig.actions());
            while let Some(action) = actions.pop_front() {
                self.perform(action);
            }
            if let Some(event) = self.rig.agent.poll_event() {
                assert!(matches!(event, Event::Failed(_)), "{event:?}");
                return (self.seen, self.is_taken, self.now - self.began);
            }
            let due = self.rig.agent.poll_timeout();
            let answer = self.answers.first_entry();
            match answer {
                Some(entry) if due.is_none_or(|due| entry.key().0 <= due) => {
                    let ((at, _), answer) = entry.remove_entry();
                    self.now = at;
                    self.rig.set(at);
                    self.take(answer);
                }
                _ => {
                    self.now = due.expect("an agent that has not ended waits for something");
                    self.rig.set(self.now);
                    self.rig.agent.handle_timeout(self.now);
                }
            }
        }
    }
}

/// What a dialler tells of himself who looks for services in the callee's network.
fn scan(nat: NatReport) -> Introduced {
    let inside = (0..14).map(|n| format!("192.168.1.{}:22", 50 + n));
    let mut remote: Vec<Candidate> = inside.map(|text| host(&text, P)).collect();
    remote.extend([reflexive(PEER, P), reflexive(PEER_SPARE, Q)]);
    let bases = [base(HERE, P), base(HERE_SPARE, Q)];
    Introduced {
        remote_nat: nat,
        ..introduced(Role::Controlled, &bases, &remote)
    }
}

#[test]
fn a_dialler_cannot_tell_what_is_in_the_callees_network() {
    let varies = maps(p2pconnect_proto::NatMapping::AddressAndPortDependent);
    for nat in [NatReport::default(), varies] {
        let expected = World::new(scan(nat), Found::Nothing).run();
        assert!(expected.1, "the dialler's own connection is taken");
        for found in ALL {
            let seen = World::new(scan(nat), found).run();
            assert!(
                seen == expected,
                "{found:?}: {} and {} things, {} and {}, {:?} and {:?}",
                seen.0.len(),
                expected.0.len(),
                seen.1,
                expected.1,
                seen.2,
                expected.2
            );
        }
    }
}

#[test]
fn nor_where_he_names_nothing_else() {
    let only_inside = |found| {
        let mut introduced = scan(NatReport::default());
        introduced
            .remote_candidates
            .retain(|it| it.address.ip() != address(PEER).ip());
        let (.., ended) = World::new(introduced, found).run();
        ended
    };
    let expected = only_inside(Found::Nothing);
    for found in ALL {
        assert_eq!(only_inside(found), expected, "{found:?}");
    }
    let mut nobody = scan(NatReport::default());
    nobody.remote_candidates.clear();
    let (.., ended) = World::new(nobody, Found::Nothing).run();
    assert_eq!(ended, expected, "where nothing may be connected to");
}
