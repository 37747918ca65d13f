//! Random sequences of commands against the plainest possible model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const PEERS: u8 = 6;
const MAX_PEERS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Register {
        n: u8,
        c: u64,
        allowed: Option<Vec<u8>>,
        marker: u16,
    },
    Dial {
        n: u8,
        callee: u8,
    },
    Disconnect {
        n: u8,
        c: u64,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let allowed = prop::option::of(prop::collection::vec(0..PEERS, 0..4));
    prop_oneof![
        (0..PEERS, 0..3_u64, allowed, 1..u16::MAX).prop_map(|(n, c, allowed, marker)| {
            Step::Register {
                n,
                c,
                allowed,
                marker,
            }
        }),
        (0..PEERS, 0..PEERS).prop_map(|(n, callee)| Step::Dial { n, callee }),
        (0..PEERS, 0..3_u64).prop_map(|(n, c)| Step::Disconnect { n, c }),
        (0..3_000_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

#[derive(Debug, Default)]
struct Model {
    registered: BTreeMap<u8, Entry>,
    /// The meetings of each dialler with each callee.
    met: BTreeMap<(u8, u8), Vec<Met>>,
    superseded: BTreeSet<ConnectionId>,
}

#[derive(Debug)]
struct Met {
    at: Instant,
    dialler: Place,
    callee: Place,
    is_shared: bool,
}

#[derive(Debug)]
struct Entry {
    connection: ConnectionId,
    allowed: Option<Vec<u8>>,
    marker: u16,
}

/// A connection's number says whose it is, as in a coordinator, where none is used twice.
fn client_of(n: u8, c: u64) -> Client {
    client(n, u64::from(n) * 10 + c)
}

fn registration(n: u8, allowed: Option<&Vec<u8>>, marker: u16) -> Command {
    let foreign = Candidate::host(([203, 0, 113, n], marker).into(), PunchPort::PRIMARY);
    let own = Candidate::host(([192, 0, 2, n], marker).into(), PunchPort::PRIMARY);
    Command::Register(Registration {
        serial: 1,
        candidates: vec![foreign, own],
        ..Registration::new(allowed.map_or(DialPolicy::Anyone, |allowed| {
            DialPolicy::Only(allowed.iter().copied().map(peer).collect())
        }))
    })
}

impl Model {
    fn check(&mut self, scene: &mut Scene, step: Step) {
        match step {
            Step::Wait { ms } => scene.now += Duration::from_millis(ms),
            Step::Disconnect { n, c } => {
                let who = client_of(n, c);
                let entry = self.registered.get(&n);
                let was_registered = entry.is_some_and(|e| e.connection == who.connection);
                if was_registered {
                    self.registered.remove(&n);
                }
                self.superseded.remove(&who.connection);
                let event = scene.handle(&who, Command::Disconnect);
                assert_eq!(event, Event::Disconnected { was_registered });
            }
            Step::Register {
                n,
                c,
                allowed,
                marker,
            } => {
                let who = client_of(n, c);
                let event = scene.handle(&who, registration(n, allowed.as_ref(), marker));
                self.check_registered(event, n, who.connection, allowed, marker);
            }
            Step::Dial { n, callee } => {
                let who = client_of(n, 0);
                match scene.handle(&who, dial(n, callee)) {
                    Event::Meet(meeting) => self.check_met(&meeting, n, callee, scene.now),
                    Event::Crossed(_) => self.check_crossed(n, callee, scene.now),
                    Event::Refused(refusal) => self.check_refused(refusal.reason, n, callee),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(scene.registry.registered_count(), self.registered.len());
        assert!(self.registered.len() <= MAX_PEERS);
    }

    fn check_registered(
        &mut self,
        event: Event,
        n: u8,
        connection: ConnectionId,
        allowed: Option<Vec<u8>>,
        marker: u16,
    ) {
        let former = self.registered.get(&n).map(|entry| entry.connection);
        match event {
            Event::Registered { unproven, replaced } => {
                assert!(!self.superseded.contains(&connection));
                assert_eq!(unproven, [([203, 0, 113, n], marker).into()]);
                assert_eq!(replaced, former.filter(|&former| former != connection));
                self.superseded.extend(replaced);
                self.registered.insert(
                    n,
                    Entry {
                        connection,
                        allowed,
                        marker,
                    },
                );
            }
            Event::Superseded => assert!(self.superseded.contains(&connection)),
            Event::Refused(refusal) if refusal.reason == RefusalReason::Full => {
                assert!(former.is_none() && self.registered.len() == MAX_PEERS);
            }
            Event::Refused(refusal) => assert_eq!(refusal.reason, RefusalReason::TooMany),
            other => panic!("{other:?}"),
        }
    }

    fn check_met(&mut self, meeting: &Meeting, n: u8, callee: u8, now: Instant) {
        assert!(!self.crosses(n, callee, now));
        let entry = self.registered.get(&callee);
        let entry = entry.expect("nobody meets a peer that is not there");
        assert!(entry.admits(n) && n != callee);
        let current = Candidate::host(
            ([192, 0, 2, callee], entry.marker).into(),
            PunchPort::PRIMARY,
        );
        assert_eq!(meeting.callee.candidates, [current]);
        assert_eq!(meeting.callee.place, Place::Here(entry.connection));
        assert_eq!(meeting.dialler.peer, peer(n));
        let met = Met {
            at: now,
            dialler: meeting.dialler.place,
            callee: meeting.callee.place,
            is_shared: false,
        };
        self.met.entry((n, callee)).or_default().push(met);
    }

    fn check_crossed(&mut self, n: u8, callee: u8, now: Instant) {
        assert!(self.registered[&callee].admits(n));
        let ends = self.ends(n, callee);
        let met = self.met.get_mut(&(callee, n));
        let mut met = met.into_iter().flatten();
        let met = met.find(|met| met.serves(ends, now));
        met.expect("it crosses one").is_shared = true;
    }

    /// Tells whether the callee has just dialled this dialler, endpoint by endpoint.
    fn crosses(&self, n: u8, callee: u8, now: Instant) -> bool {
        let ends = self.ends(n, callee);
        let mut met = self.met.get(&(callee, n)).into_iter().flatten();
        met.any(|met| met.serves(ends, now))
    }

    /// Returns the connections of a meeting that would serve this dial.
    fn ends(&self, n: u8, callee: u8) -> Option<(Place, Place)> {
        let entry = self.registered.get(&callee)?;
        let ends = (entry.connection, client_of(n, 0).connection);
        Some((Place::Here(ends.0), Place::Here(ends.1)))
    }

    fn check_refused(&self, refusal: RefusalReason, n: u8, callee: u8) {
        let entry = self.registered.get(&callee);
        match refusal {
            RefusalReason::OwnId => assert_eq!(n, callee),
            RefusalReason::Unavailable => assert!(entry.is_none_or(|entry| !entry.admits(n))),
            RefusalReason::TooMany => {}
            other => panic!("{other:?}"),
        }
    }
}

impl Met {
    fn serves(&self, ends: Option<(Place, Place)>, now: Instant) -> bool {
        let is_young = now - self.at < Limits::default().crossing;
        !self.is_shared && is_young && Some((self.dialler, self.callee)) == ends
    }
}

impl Entry {
    fn admits(&self, n: u8) -> bool {
        self.allowed.as_ref().is_none_or(|ids| ids.contains(&n))
    }
}

proptest! {
    #[test]
    fn the_registry_agrees_with_the_model(steps in prop::collection::vec(step(), 0..120)) {
        let mut scene = Scene::new(Limits { max_peers: MAX_PEERS, ..Limits::default() });
        let mut model = Model::default();
        for step in steps {
            model.check(&mut scene, step);
        }
    }

    #[test]
    fn nobody_is_told_an_address_that_was_not_shown_to_be_a_peers_own(
        seen: [u8; 4],
        claimed: [u8; 4],
        port: u16,
        reflexive: bool,
    ) {
        let mut scene = Scene::new(Limits::default());
        let claimant = Client { seen: (seen, 1).into(), ..client(1, 1) };
        let address = (claimed, port).into();
        let candidate = if reflexive {
            Candidate::server_reflexive(address, PunchPort::PRIMARY, None)
        } else {
            Candidate::host(address, PunchPort::PRIMARY)
        };
        scene.handle(&claimant, Command::Register(Registration { serial: 1, candidates: vec![candidate], ..Registration::new(DialPolicy::Anyone) }));
        let meeting = scene.dial(&client(2, 2), 1).unwrap();
        for told in meeting.callee.candidates {
            let local = !reflexive && p2pconnect_proto::is_local(told.address.ip());
            prop_assert!(claimed == seen || local);
        }
    }
}
