//! Tests of the registry: who is told of whom, and within what limits.

use std::time::{Duration, Instant};

use p2pconnect_proto::{PortAssignment, PunchPort, Role, message::DialRequest};

use super::*;

fn peer(n: u8) -> PeerId {
    PeerId::from_public_key([n; 32])
}

/// Peer `n` on its connection `c`, at an address of its own.
fn client(n: u8, c: u64) -> Client {
    Client {
        peer: peer(n),
        connection: ConnectionId(c),
        seen: ([192, 0, 2, n], 4433).into(),
    }
}

fn candidate(n: u8) -> Candidate {
    Candidate::host(([192, 0, 2, n], 40_000).into(), PunchPort::PRIMARY)
}

fn register(n: u8, policy: DialPolicy) -> Command {
    Command::Register(Registration {
        serial: 1,
        candidates: vec![candidate(n)],
        ..Registration::new(policy)
    })
}

fn dial(n: u8, callee: u8) -> Command {
    Command::Dial {
        request: DialRequest {
            candidates: vec![candidate(n)],
            ..DialRequest::new(peer(callee))
        },
        witnessed: Vec::new(),
        session: SessionToken::from_bytes([n; 16]),
    }
}

struct Scene {
    registry: Registry,
    now: Instant,
}

impl Scene {
    fn new(limits: Limits) -> Self {
        Self {
            registry: Registry::new(limits, TokenKey::from_bytes([0; 32])),
            now: Instant::now(),
        }
    }

    fn handle(&mut self, client: &Client, command: Command) -> Event {
        let now = Moment {
            monotonic: self.now,
            unix_secs: 0,
        };
        self.registry.handle_command(client, command, now)
    }

    fn register(&mut self, client: &Client, policy: DialPolicy) -> Option<ConnectionId> {
        match self.handle(client, register(client.peer.as_bytes()[0], policy)) {
            Event::Registered { unproven, replaced } => {
                assert_eq!(unproven, []);
                replaced
            }
            other => panic!("{other:?}"),
        }
    }

    fn dial(&mut self, client: &Client, callee: u8) -> Result<Meeting, RefusalReason> {
        match self.handle(client, dial(client.peer.as_bytes()[0], callee)) {
            Event::Meet(meeting) => Ok(*meeting),
            Event::Refused(refusal) => Err(refusal.reason),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_meeting_tells_each_side_of_the_other() {
    let mut scene = Scene::new(Limits::default());
    scene.register(&client(1, 1), DialPolicy::Anyone);
    let meeting = scene.dial(&client(2, 2), 1).unwrap();
    assert_eq!(meeting.callee.place, Place::Here(ConnectionId(1)));
    assert_eq!(meeting.dialler.place, Place::Here(ConnectionId(2)));

    let (near, far) = (Duration::from_millis(10), Duration::from_millis(30));
    let Introductions {
        to_dialler: (dialler_waits, to_dialler),
        to_callee: (callee_waits, to_callee),
    } = meeting.introductions(near, far);
    assert_eq!(dialler_waits, Duration::from_millis(10));
    assert_eq!(callee_waits, Duration::ZERO);
    assert_eq!(
        (to_dialler.peer, to_dialler.role),
        (peer(1), Role::Controlling)
    );
    assert_eq!(
        (to_callee.peer, to_callee.role),
        (peer(2), Role::Controlled)
    );
    assert_eq!(to_dialler.candidates, [candidate(1)]);
    assert_eq!(to_callee.candidates, [candidate(2)]);
    assert_eq!(to_dialler.rtt_via_coordinator_us, 40_000);
    assert_eq!(to_dialler.session, to_callee.session);
}

#[test]
fn only_the_policy_s_peers_are_told_anything() {
    let mut scene = Scene::new(Limits::default());
    scene.register(&client(1, 1), DialPolicy::Only(vec![peer(2)]));
    assert_eq!(
        scene.dial(&client(3, 3), 1),
        Err(RefusalReason::Unavailable)
    );
    assert!(scene.dial(&client(2, 2), 1).is_ok());
    assert_eq!(scene.dial(&client(1, 1), 1), Err(RefusalReason::OwnId));
    assert_eq!(
        scene.dial(&client(2, 2), 9),
        Err(RefusalReason::Unavailable)
    );
}

#[test]
fn nobody_is_told_what_no_peer_can_mean() {
    let mut scene = Scene::new(Limits::default());
    let nat = |ports| NatReport {
        ports: Some(ports),
        ..NatReport::default()
    };
    let of_unknown_port = |n| Candidate {
        punch_port: PunchPort(3),
        ..candidate(n)
    };
    let registering = Command::Register(Registration {
        serial: 1,
        candidates: vec![of_unknown_port(1), candidate(1)],
        nat: nat(PortAssignment::Sequential { delta: 0 }),
        ..Registration::new(DialPolicy::Anyone)
    });
    let Event::Registered { unproven, .. } = scene.handle(&client(1, 1), registering) else {
        panic!("what is malformed is left out and no error");
    };
    assert_eq!(unproven, [candidate(1).address]);
    let dialling = Command::Dial {
        request: DialRequest {
            candidates: vec![of_unknown_port(2), candidate(2)],
            nat: nat(PortAssignment::Random { first: 2, last: 1 }),
            ..DialRequest::new(peer(1))
        },
        // Claims name punch ports as well.
        witnessed: vec![of_unknown_port(3)],
        session: SessionToken::from_bytes([2; 16]),
    };
    let Event::Meet(meeting) = scene.handle(&client(2, 2), dialling) else {
        panic!("what is malformed is left out and no error");
    };
    assert_eq!(meeting.callee.candidates, [candidate(1)]);
    assert_eq!(meeting.dialler.candidates, [candidate(2)]);
    assert_eq!(meeting.witnessed, 0);
    for side in [meeting.callee, meeting.dialler] {
        assert_eq!(side.nat, NatReport::default());
    }
}

#[test]
fn the_newest_registration_wins_and_the_older_connection_cannot_end_it() {
    let mut scene = Scene::new(Limits::default());
    assert_eq!(scene.register(&client(1, 1), DialPolicy::Anyone), None);
    assert_eq!(scene.register(&client(1, 1), DialPolicy::Anyone), None);
    let replaced = scene.register(&client(1, 7), DialPolicy::Anyone);
    assert_eq!(replaced, Some(ConnectionId(1)));

    // It was under way when the other came.
    let event = scene.handle(&client(1, 1), register(1, DialPolicy::Anyone));
    assert_eq!(event, Event::Superseded);
    let event = scene.handle(&client(1, 1), Command::Disconnect);
    assert_eq!(
        event,
        Event::Disconnected {
            was_registered: false
        }
    );
    let meeting = scene.dial(&client(2, 2), 1).unwrap();
    assert_eq!(meeting.callee.place, Place::Here(ConnectionId(7)));

    let event = scene.handle(&client(1, 7), Command::Disconnect);
    assert_eq!(
        event,
        Event::Disconnected {
            was_registered: true
        }
    );
    assert_eq!(
        scene.dial(&client(2, 2), 1),
        Err(RefusalReason::Unavailable)
    );
}

#[test]
fn a_registration_that_comes_late_does_not_replace_a_newer_one() {
    let mut scene = Scene::new(Limits::default());
    let numbered = |serial, policy| match register(1, policy) {
        Command::Register(registration) => Command::Register(Registration {
            serial,
            ..registration
        }),
        other => other,
    };
    let is_registered = |event| matches!(event, Event::Registered { replaced: None, .. });
    let nobody = || DialPolicy::Only(Vec::new());

    for serial in [u32::MAX, 1] {
        let event = scene.handle(&client(1, 1), numbered(serial, DialPolicy::Anyone));
        assert!(is_registered(event));
    }
    let late = scene.handle(&client(1, 1), numbered(0, nobody()));
    assert!(is_registered(late), "it is no failure");
    assert_eq!(scene.dial(&client(2, 2), 1).unwrap().serial, 1);

    let again = scene.handle(&client(1, 1), numbered(1, nobody()));
    assert!(is_registered(again));
    assert_eq!(
        scene.dial(&client(2, 2), 1),
        Err(RefusalReason::Unavailable)
    );

    // Another process begins to count anew.
    let other = scene.handle(&client(1, 3), numbered(0, DialPolicy::Anyone));
    assert!(!is_registered(other), "it replaces");
    assert_eq!(scene.dial(&client(2, 2), 1).unwrap().serial, 0);
}

#[test]
fn a_refused_registration_leaves_the_former_in_place() {
    let mut scene = Scene::new(Limits {
        register_burst: 1,
        ..Limits::default()
    });
    scene.register(&client(1, 1), DialPolicy::Anyone);
    let nobody = register(1, DialPolicy::Only(Vec::new()));
    let event = scene.handle(&client(1, 1), nobody.clone());
    let wait = scene.registry.limits.register_interval;
    let until = Refusal::until(RefusalReason::TooMany, wait);
    assert_eq!(event, Event::Refused(until));
    assert!(scene.dial(&client(2, 2), 1).is_ok());
    scene.now += scene.registry.limits.register_interval;
    let event = scene.handle(&client(1, 1), nobody);
    assert!(matches!(event, Event::Registered { .. }), "{event:?}");
}

#[test]
fn a_callee_is_busy_with_so_many_and_rests_after_a_while() {
    let mut scene = Scene::new(Limits {
        max_in_flight: 8,
        ..Limits::default()
    });
    scene.register(&client(0, 0), DialPolicy::Anyone);
    for n in 1..=8 {
        assert!(scene.dial(&client(n, n.into()), 0).is_ok());
    }
    assert_eq!(scene.dial(&client(9, 9), 0), Err(RefusalReason::TooMany));
    scene.now += scene.registry.limits.in_flight;
    assert!(scene.dial(&client(9, 9), 0).is_ok());
}

#[test]
fn many_identities_at_one_address_share_a_rate() {
    let mut scene = Scene::new(Limits {
        dial_burst_per_source: 3,
        ..Limits::default()
    });
    let at_one_address = |n| Client {
        seen: ([192, 0, 2, 200], u16::from(n)).into(),
        ..client(n, n.into())
    };
    for n in 1..=3 {
        assert_eq!(
            scene.dial(&at_one_address(n), 99),
            Err(RefusalReason::Unavailable)
        );
    }
    assert_eq!(
        scene.dial(&at_one_address(4), 99),
        Err(RefusalReason::TooMany)
    );
    assert_eq!(
        scene.dial(&client(5, 5), 99),
        Err(RefusalReason::Unavailable)
    );
}

#[test]
fn loopback_addresses_stay_on_the_host() {
    let mut scene = Scene::new(Limits::default());
    let own_host = |n: u8| Client {
        seen: ([127, 0, 0, 1], u16::from(n) + 1).into(),
        ..client(n, n.into())
    };
    let loopback = Candidate::host(([127, 0, 0, 1], 40_000).into(), PunchPort::PRIMARY);
    let registration = Command::Register(Registration {
        serial: 1,
        candidates: vec![loopback.clone()],
        ..Registration::new(DialPolicy::Anyone)
    });
    scene.handle(&own_host(1), registration);
    let meeting = scene.dial(&own_host(2), 1).unwrap();
    assert_eq!(meeting.callee.candidates, [loopback]);
    let meeting = scene.dial(&client(3, 3), 1).unwrap();
    assert_eq!(meeting.callee.candidates, []);
}

mod model;

/// Two peers that may both be dialled.
fn two(limits: Limits) -> (Scene, Client, Client) {
    let (one, other) = (client(1, 1), client(2, 2));
    let mut scene = Scene::new(limits);
    scene.register(&one, DialPolicy::Anyone);
    scene.register(&other, DialPolicy::Anyone);
    (scene, one, other)
}

#[test]
fn one_introduction_serves_two_dials_that_cross() {
    let (mut scene, one, other) = two(Limits::default());
    let session = scene.dial(&one, 2).unwrap().session;
    assert_eq!(scene.handle(&other, dial(2, 1)), Event::Crossed(session));
    assert!(scene.dial(&other, 1).is_ok(), "each serves one dial");
    assert!(
        matches!(scene.handle(&one, dial(1, 2)), Event::Crossed(_)),
        "and so does the one the other way"
    );
}

#[test]
fn an_introduction_that_is_over_serves_no_other_dial() {
    let (mut scene, one, other) = two(Limits::default());
    assert!(scene.dial(&one, 2).is_ok());
    scene.handle(&other, Command::Settled(peer(1)));
    assert!(scene.dial(&other, 1).is_ok());

    let (mut scene, one, other) = two(Limits::default());
    assert!(scene.dial(&one, 2).is_ok());
    scene.now += scene.registry.limits.crossing;
    assert!(scene.dial(&other, 1).is_ok(), "it has had its time");
}

#[test]
fn nothing_is_kept_of_an_introduction_after_a_while() {
    let (mut scene, one, other) = two(Limits::default());
    assert!(scene.dial(&one, 2).is_ok());
    scene.handle(&other, Command::Disconnect);
    assert!(scene.registry.introductions(scene.now) > 0);
    scene.now += scene.registry.limits.relaying;
    assert_eq!(scene.registry.introductions(scene.now), 0);
}

#[test]
fn a_late_word_of_the_end_of_one_introduction_does_not_end_the_next() {
    let (mut scene, one, other) = two(Limits::default());
    assert!(scene.dial(&one, 2).is_ok());
    assert!(scene.dial(&one, 2).is_ok());
    scene.handle(&other, Command::Settled(peer(1)));
    assert!(matches!(
        scene.handle(&other, dial(2, 1)),
        Event::Crossed(_)
    ));
    assert!(scene.dial(&other, 1).is_ok(), "there is one more only");
}

#[test]
fn dials_of_other_endpoints_with_the_same_keys_do_not_cross() {
    let (mut scene, one, other) = two(Limits::default());
    assert!(scene.dial(&client(1, 3), 2).is_ok());
    assert!(scene.dial(&other, 1).is_ok(), "its callee has not dialled");

    let (mut scene, _, _) = two(Limits::default());
    assert!(scene.dial(&one, 2).is_ok());
    assert!(
        scene.dial(&client(2, 4), 1).is_ok(),
        "its dialler is not dialled"
    );
}

#[test]
fn whom_the_callee_does_not_admit_gets_nothing_by_crossing() {
    let (mut scene, one, other) = two(Limits::default());
    scene.register(&one, DialPolicy::Only(vec![peer(3)]));
    assert!(scene.dial(&one, 2).is_ok());
    assert_eq!(scene.dial(&other, 1), Err(RefusalReason::Unavailable));
}

#[test]
fn a_dialler_can_say_that_it_gives_up_for_as_long_as_a_dial_lasts() {
    let (mut scene, one, _) = two(Limits::default());
    let session = scene.dial(&one, 2).unwrap().session;
    let leave = || Command::Relay { session, bytes: 0 };
    scene.now += Duration::from_secs(15);
    let to = Place::Here(ConnectionId(2));
    assert_eq!(scene.handle(&one, leave()), Event::Pass { to });
    scene.now += scene.registry.limits.relaying;
    let refused = Event::Refused(RefusalReason::Unavailable.into());
    assert_eq!(scene.handle(&one, leave()), refused);
}

/// Has 250 diallers at one address pass as many bytes as they can at one moment.
fn carry(scene: &mut Scene, callee: &Client) -> usize {
    let mut carried = 0;
    for n in (1..=250).cycle().take(4_000) {
        let dialler = Client {
            seen: ([192, 0, 2, 1], 4433).into(),
            ..client(n, u64::from(n))
        };
        let Event::Meet(meeting) = scene.handle(&dialler, dial(n, 0)) else {
            continue;
        };
        let piece = Command::Relay {
            session: meeting.session,
            bytes: 1_024,
        };
        while let Event::Pass { .. } = scene.handle(&dialler, piece.clone()) {
            carried += 1_024;
        }
        scene.handle(callee, Command::Settled(dialler.peer));
    }
    carried
}

#[test]
fn the_bytes_of_handshakes_carry_no_stream() {
    let mut scene = Scene::new(Limits::default());
    let callee = client(0, 1_000);
    scene.handle(&callee, register(0, DialPolicy::Anyone));
    let at_once = carry(&mut scene, &callee);
    assert!(at_once <= 2 << 20, "{at_once} bytes at once");
    scene.now += Duration::from_secs(10);
    let later = carry(&mut scene, &callee);
    assert!(later > 0, "honest dials go on");
    assert!(later <= 10 * (128 << 10) + 4_096, "{later} bytes in 10 s");
}
