//! The blocks of `PROTOCOL.md` are the messages' bytes, and its tables are the code's numbers.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use p2pconnect_proto::{
    Candidate, CoordinatorAddr, InviteSecret, NatFiltering, NatMapping, NatReport, PeerId,
    PortAssignment, PunchPort, Puzzle, ReflexiveToken, Role, SessionToken, TokenKey,
    UnsolicitedSyn,
    answer::NominationAnswer,
    board::{Member, Topic},
    close,
    codec::{self, HEADER_LEN, Wire},
    message::{
        Announce, BOARD, CLUSTER, Cookie, DialPolicy, DialRequest, Extension, Extensions, Flight,
        Found, Introduction, LookUp, Move, Notice, ReflexiveClaim, Refusal, RefusalReason,
        Registered, Registration, Request, Response, Room, Silent, TopicChanges, Unknown,
        Unsupported, Watch, Welcome,
    },
};

const PROTOCOL: &str = include_str!("../../PROTOCOL.md");

const ALICE: PeerId = PeerId::from_public_key([0xA1; 32]);
/// The bytes of the length in front of what has one.
const LENGTH: usize = 2;

const BOB: PeerId = PeerId::from_public_key([0xB0; 32]);

/// The fenced blocks whose info string is `hex <name>`, without the comments in them.
fn blocks() -> BTreeMap<String, Vec<u8>> {
    let mut blocks = BTreeMap::new();
    let mut lines = PROTOCOL.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("```hex ") else {
            continue;
        };
        let digits: String = lines
            .by_ref()
            .take_while(|line| *line != "```")
            .map(|line| line.split_once('#').map_or(line, |(digits, _)| digits))
            .flat_map(str::chars)
            .filter(|c| !c.is_whitespace())
            .collect();
        let bytes = data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap();
        let former = blocks.insert(name.to_owned(), bytes);
        assert_eq!(former, None, "two blocks are called {name}");
    }
    blocks
}

struct Checker {
    blocks: BTreeMap<String, Vec<u8>>,
}

impl Checker {
    fn message<M: Wire + PartialEq + Debug>(&mut self, name: &str, message: &M) {
        let encoded = codec::encode(message).unwrap();
        self.bytes(name, &encoded);
        assert_eq!(
            codec::decode::<M>(&encoded[HEADER_LEN..]).as_ref(),
            Ok(message)
        );
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let written = self.blocks.remove(name).unwrap_or_default();
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(hex(&written), hex(bytes), "block {name}");
    }
}

fn token() -> ReflexiveToken {
    ReflexiveToken {
        salt: [0x5A; 16],
        expires_at: 1_900_000_000,
        mac: [0x3C; 16],
    }
}

fn nat() -> NatReport {
    NatReport {
        mapping: Some(NatMapping::AddressAndPortDependent),
        ports: Some(PortAssignment::Sequential { delta: 1 }),
        filtering: Some(NatFiltering::AddressDependent),
        unsolicited: Some(UnsolicitedSyn::Reset),
        hairpinning: None,
    }
}

/// An extension that nothing is known of.
fn extensions() -> Extensions {
    Extensions(vec![Extension {
        kind: 0x1A2A,
        value: vec![0xEE; 3],
    }])
}

fn silent() -> Silent {
    Silent {
        session: flight().session,
        silent_ms: 12_500,
    }
}

fn moving() -> Move {
    let place = CoordinatorAddr {
        id: BOB,
        host: "192.0.2.9".to_owned(),
        port: 4_433,
        web: None,
    };
    Move::new(Duration::from_secs(30), [&place])
}

fn flight() -> Flight {
    Flight {
        session: SessionToken::from_bytes([0x77; 16]),
        bytes: vec![0x16, 0x03, 0x03],
    }
}

fn introduction(role: Role) -> Introduction {
    Introduction {
        session: SessionToken::from_bytes([0x77; 16]),
        peer: BOB,
        role,
        candidates: vec![Candidate::server_reflexive(
            ([198, 51, 100, 7], 40_000).into(),
            PunchPort::PRIMARY,
            None,
        )],
        nat: nat(),
        rtt_via_coordinator_us: 84_000,
        handshake: match role {
            Role::Controlling => Vec::new(),
            Role::Controlled => vec![0x16, 0x03, 0x01],
        },
        serial: match role {
            Role::Controlling => 0,
            Role::Controlled => 2,
        },
        witnessed: match role {
            Role::Controlling => 1,
            Role::Controlled => 0,
        },
        seen_together: true,
        peer_extensions: extensions().to_peer(),
        extensions: Extensions::default(),
    }
}

fn registration() -> Registration {
    Registration {
        serial: 2,
        candidates: vec![
            Candidate::host(([192, 168, 1, 2], 50_000).into(), PunchPort::PRIMARY),
            Candidate::server_reflexive(
                ([198, 51, 100, 7], 40_000).into(),
                PunchPort::SPARE,
                Some(token()),
            ),
        ],
        nat: nat(),
        policy: DialPolicy::Only(vec![ALICE]),
        peer_extensions: extensions().to_peer(),
        extensions: extensions(),
    }
}

fn dial() -> DialRequest {
    let v6 = [0x2001, 0xDB8, 0, 0, 0, 0, 0, 1];
    DialRequest {
        callee: BOB,
        candidates: vec![Candidate::host((v6, 50_000).into(), PunchPort::PRIMARY)],
        nat: NatReport::default(),
        claims: vec![ReflexiveClaim {
            punch_port: PunchPort::SPARE,
            salt: [0x5A; 16],
        }],
        handshake: vec![0x16, 0x03, 0x01],
        peer_extensions: Vec::new(),
        extensions: Extensions::default(),
    }
}

fn welcome() -> Welcome {
    Welcome {
        observed: ([198, 51, 100, 7], 4_433).into(),
        stun_servers: vec![([192, 0, 2, 1], 3_478).into()],
        stun_alternates: Vec::new(),
        features: vec![0x3A4A],
        extensions: Extensions(vec![Extension {
            kind: CLUSTER,
            value: b"friends".to_vec(),
        }]),
    }
}

fn topic() -> Topic {
    Topic::with_secret("chess", b"secret")
}

fn member(peer: PeerId) -> Member {
    let proof = topic().proof(&peer);
    Member { peer, proof }
}

fn announce() -> Announce {
    Announce {
        topic: topic().key(),
        proof: member(ALICE).proof,
        extensions: Extensions::default(),
    }
}

fn look_up() -> LookUp {
    LookUp {
        topic: topic().key(),
        most: 32,
        cookie: Some(Cookie([0xC0; 16])),
        extensions: Extensions::default(),
    }
}

fn watch() -> Watch {
    Watch {
        topic: topic().key(),
        extensions: Extensions::default(),
    }
}

fn found() -> Found {
    Found {
        members: vec![member(BOB)],
        cookie: None,
        extensions: Extensions::default(),
    }
}

fn topic_changes() -> TopicChanges {
    TopicChanges {
        topic: topic().key(),
        missed: true,
        joined: vec![member(BOB)],
        left: vec![ALICE],
        extensions: Extensions::default(),
    }
}

fn registered() -> Registered {
    Registered {
        unproven: vec![([203, 0, 113, 9], 50_000).into()],
        extensions: Extensions::default(),
    }
}

#[test]
fn the_blocks_of_the_document_are_right() {
    let mut checker = Checker { blocks: blocks() };
    checker.message("register", &Request::Register(registration()));
    checker.message("dial", &Request::Dial(dial()));
    checker.message("settled", &Request::Settled(BOB));
    checker.message("relay", &Request::Relay(flight()));
    checker.message("announce", &Request::Announce(announce()));
    checker.message("withdraw", &Request::Withdraw(topic().key()));
    checker.message("look-up", &Request::LookUp(look_up()));
    checker.message("watch", &Request::Watch(watch()));
    checker.message("unwatch", &Request::Unwatch(topic().key()));
    checker.message("noted", &Response::Noted);
    checker.message("found", &Response::Found(found()));
    checker.message("topic", &Notice::Topic(topic_changes()));
    let secret = InviteSecret::new("correct-horse-battery-staple").unwrap();
    checker.message("prove", &Request::Prove(secret.prove(&ALICE, &BOB)));
    checker.message("registered", &Response::Registered(registered()));
    checker.message(
        "introduced",
        &Response::Introduced(introduction(Role::Controlling)),
    );
    let wait = Duration::from_millis(2_500);
    let too_many = Refusal::until(RefusalReason::TooMany, wait);
    checker.message("refused", &Response::Refused(too_many));
    let unsupported = RefusalReason::Unsupported(Unsupported::Extension(0x8001));
    checker.message("unsupported", &Response::Refused(unsupported.into()));
    let no_room = RefusalReason::NoRoom(Room::Topic);
    checker.message("no-room", &Response::Refused(no_room.into()));
    checker.message("settled-answer", &Response::Settled);
    checker.message("relayed", &Response::Relayed);
    let session = SessionToken::from_bytes([0x77; 16]);
    checker.message("crossed", &Response::Crossed(session));
    checker.message("flight", &Notice::Flight(flight()));
    checker.message("silent", &Notice::Silent(silent()));
    checker.message("move", &Notice::Move(moving()));
    checker.message("welcome", &Notice::Welcome(welcome()));
    checker.message(
        "introduction",
        &Notice::Introduction(introduction(Role::Controlled)),
    );

    let commitment = ReflexiveToken::commitment(&[0x5A; 16], &BOB);
    checker.bytes("commitment", &commitment);
    let key = TokenKey::from_bytes([0x4B; 32]);
    let mac = key.mint(
        &commitment,
        ([198, 51, 100, 7], 40_000).into(),
        1_900_000_000,
    );
    checker.bytes("mac", &mac);
    checker.bytes("topic-key", topic().key().as_bytes());
    checker.bytes("member-proof", &member(ALICE).proof.0);
    let puzzle = Puzzle {
        bits: 12,
        challenge: [0xC4; 16],
    };
    let solution = puzzle.solve(&BOB, || true).unwrap();
    checker.message("puzzle", &puzzle.extension());
    checker.message("solution", &solution.extension());
    let session = SessionToken::from_bytes([0x77; SessionToken::LEN]);
    let openings = [Role::Controlling, Role::Controlled].map(|role| session.opening(role));
    checker.bytes("openings", &openings.map(|it| *it.as_bytes()).concat());
    let answers = [
        NominationAnswer::Accepted,
        NominationAnswer::Refused("no".to_owned()),
    ];
    checker.bytes("answers", &answers.map(|it| it.encode()).concat());
    assert_eq!(
        checker.blocks.keys().collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "blocks of no known message"
    );
}

fn assert_row(number: u16, name: &str) {
    let row = format!("| {number} | `{name}` |");
    assert!(PROTOCOL.contains(&row), "PROTOCOL.md lacks the row {row}");
}

/// Checks the numbers of variants, each of which is written as a number.
fn assert_variants<M: Wire + Debug>(path: &str, variants: impl IntoIterator<Item = M>) {
    assert_variants_behind(0, path, variants);
}

/// Checks the numbers of variants that are behind so many bytes.
fn assert_variants_behind<M: Wire + Debug>(
    bytes: usize,
    path: &str,
    variants: impl IntoIterator<Item = M>,
) {
    for (number, variant) in (0_u16..).zip(variants) {
        let frame = codec::encode(&variant).unwrap();
        let tag = frame[HEADER_LEN + bytes..].first_chunk::<2>().unwrap();
        assert_eq!(u16::from_be_bytes(*tag), number, "{variant:?}");
        let debug = format!("{variant:?}");
        let name = debug.split(['(', ' ']).next().unwrap();
        assert_row(number, &format!("{path}::{name}"));
    }
}

#[test]
fn the_numbers_of_nat_behaviours_are_right() {
    assert_variants(
        "NatFiltering",
        [
            NatFiltering::EndpointIndependent,
            NatFiltering::AddressDependent,
            NatFiltering::AddressAndPortDependent,
        ],
    );
    let (first, last) = (1, 2);
    assert_variants_behind(
        LENGTH,
        "PortAssignment",
        [
            PortAssignment::Preserved,
            PortAssignment::Sequential { delta: 1 },
            PortAssignment::Random { first, last },
        ],
    );
    assert_variants(
        "UnsolicitedSyn",
        [
            UnsolicitedSyn::Dropped,
            UnsolicitedSyn::Reset,
            UnsolicitedSyn::Icmp,
        ],
    );
    assert_variants(
        "NatMapping",
        [
            NatMapping::EndpointIndependent,
            NatMapping::AddressDependent,
            NatMapping::AddressAndPortDependent,
        ],
    );
}

#[test]
fn the_numbers_of_messages_are_right() {
    let session = SessionToken::from_bytes([0; 16]);
    let unknown = |kind: u16| Unknown {
        kind,
        fields: Vec::new(),
    };
    assert_variants(
        "Request",
        [
            Request::Register(registration()),
            Request::Dial(dial()),
            Request::Settled(BOB),
            Request::Relay(flight()),
            Request::Announce(announce()),
            Request::Withdraw(topic().key()),
            Request::LookUp(look_up()),
            Request::Watch(watch()),
            Request::Unwatch(topic().key()),
            Request::Prove([0; 32]),
        ],
    );
    assert_variants(
        "Response",
        [
            Response::Registered(registered()),
            Response::Introduced(introduction(Role::Controlling)),
            Response::Refused(RefusalReason::Full.into()),
            Response::Settled,
            Response::Relayed,
            Response::Crossed(session),
            Response::Noted,
            Response::Found(found()),
        ],
    );
    assert_variants(
        "Notice",
        [
            Notice::Welcome(welcome()),
            Notice::Introduction(introduction(Role::Controlled)),
            Notice::Flight(flight()),
            Notice::Silent(silent()),
            Notice::Topic(topic_changes()),
            Notice::Move(moving()),
        ],
    );
    // What the next version may add is unknown to this one.
    for (body, decoded) in [([0, 10], unknown(10)), ([0xFF, 0xFF], unknown(u16::MAX))] {
        assert_eq!(codec::decode(&body), Ok(Request::Unknown(decoded.clone())));
        assert_eq!(codec::decode(&body), Ok(Notice::Unknown(decoded)));
    }
    assert_eq!(codec::decode(&[0, 8]), Ok(Response::Unknown(unknown(8))));
}

#[test]
fn the_numbers_of_the_document_are_right() {
    use p2pconnect_proto::CandidateKind as Kind;
    assert_variants_behind(
        LENGTH,
        "DialPolicy",
        [DialPolicy::Anyone, DialPolicy::Only(vec![])],
    );
    assert_variants("Role", [Role::Controlling, Role::Controlled]);
    assert_variants(
        "CandidateKind",
        [
            Kind::Host,
            Kind::ServerReflexive,
            Kind::Mapped,
            Kind::Predicted,
            Kind::PeerReflexive,
        ],
    );
    assert_variants_behind(
        LENGTH,
        "RefusalReason",
        [
            RefusalReason::Unavailable,
            RefusalReason::OwnId,
            RefusalReason::TooMany,
            RefusalReason::TooLarge,
            RefusalReason::Full,
            RefusalReason::Unsupported(Unsupported::Request(9)),
            RefusalReason::Other,
            RefusalReason::Apart,
            RefusalReason::NoRoom(Room::Peer),
        ],
    );
    assert_variants(
        "Room",
        [Room::Peer, Room::Network, Room::Topic, Room::Board],
    );
    assert_row(BOARD, "BOARD");
    assert_variants(
        "Unsupported",
        [
            Unsupported::Request(9),
            Unsupported::Extension(9),
            Unsupported::DialPolicy(9),
        ],
    );
    for (number, name) in [
        (close::DONE, "DONE"),
        (close::GOING_AWAY, "GOING_AWAY"),
        (close::PROTOCOL_VIOLATION, "PROTOCOL_VIOLATION"),
        (close::REPLACED, "REPLACED"),
        (close::OVERLOADED, "OVERLOADED"),
        (close::TIMED_OUT, "TIMED_OUT"),
        (close::INTERNAL, "INTERNAL"),
        (close::NOT_SERVED, "NOT_SERVED"),
    ] {
        assert_row(u16::try_from(number).unwrap(), name);
    }
}
