//! Arbitrary messages.

use std::net::{IpAddr, SocketAddr};

use p2pconnect_proto::{
    Candidate, CandidateKind, NatFiltering, NatMapping, NatReport, PeerId, PortAssignment,
    PunchPort, ReflexiveToken, Role, SessionToken, UnsolicitedSyn,
    board::{Member, MemberProof, TopicKey},
    message::{
        Announce, Cookie, DialPolicy, DialRequest, Extension, Extensions, Flight, Found,
        Introduction, LookUp, MAX_CANDIDATES, MAX_PLACES, MAX_STUN_SERVERS, Move, Notice,
        ReflexiveClaim, Refusal, RefusalReason, Registered, Registration, Request, Response, Room,
        Silent, TopicChanges, Unknown, Unsupported, Watch, Welcome,
    },
};
use proptest::{collection::vec, option, prelude::*};

pub(crate) fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (any::<u32>(), candidates(), nat(), policy(), additions()).prop_map(
            |(serial, candidates, nat, policy, (peer_extensions, extensions))| {
                Request::Register(Registration {
                    serial,
                    candidates,
                    nat,
                    policy,
                    peer_extensions,
                    extensions,
                })
            }
        ),
        peer().prop_map(Request::Settled),
        (
            peer(),
            candidates(),
            nat(),
            vec(claim(), 0..=4),
            bytes(),
            additions()
        )
            .prop_map(
                |(callee, candidates, nat, claims, handshake, (peer_extensions, extensions))| {
                    Request::Dial(DialRequest {
                        callee,
                        candidates,
                        nat,
                        claims,
                        handshake,
                        peer_extensions,
                        extensions,
                    })
                }
            ),
        flight().prop_map(Request::Relay),
        of_the_board(),
        any::<[u8; 32]>().prop_map(Request::Prove),
        unknown().prop_map(Request::Unknown),
    ]
}

pub(crate) fn response() -> impl Strategy<Value = Response> {
    prop_oneof![
        (vec(address(), 0..=MAX_CANDIDATES), extensions()).prop_map(|(unproven, extensions)| {
            Response::Registered(Registered {
                unproven,
                extensions,
            })
        }),
        introduction().prop_map(Response::Introduced),
        refusal().prop_map(Response::Refused),
        Just(Response::Settled),
        Just(Response::Relayed),
        any::<[u8; 16]>().prop_map(|it| Response::Crossed(SessionToken::from_bytes(it))),
        Just(Response::Noted),
        (vec(member(), 0..=8), option::of(cookie()), extensions()).prop_map(
            |(members, cookie, extensions)| {
                Response::Found(Found {
                    members,
                    cookie,
                    extensions,
                })
            }
        ),
        unknown().prop_map(Response::Unknown),
    ]
}

/// Requests of the bulletin board.
fn of_the_board() -> impl Strategy<Value = Request> {
    prop_oneof![
        (topic(), member(), extensions()).prop_map(|(topic, member, extensions)| {
            Request::Announce(Announce {
                topic,
                proof: member.proof,
                extensions,
            })
        }),
        topic().prop_map(Request::Withdraw),
        (topic(), any::<u16>(), option::of(cookie()), extensions()).prop_map(
            |(topic, most, cookie, extensions)| {
                Request::LookUp(LookUp {
                    topic,
                    most,
                    cookie,
                    extensions,
                })
            }
        ),
        (topic(), extensions())
            .prop_map(|(topic, extensions)| Request::Watch(Watch { topic, extensions })),
        topic().prop_map(Request::Unwatch),
    ]
}

fn topic() -> impl Strategy<Value = TopicKey> {
    any::<[u8; 32]>().prop_map(TopicKey::from_bytes)
}

fn cookie() -> impl Strategy<Value = Cookie> {
    any::<[u8; 16]>().prop_map(Cookie)
}

fn member() -> impl Strategy<Value = Member> {
    (peer(), any::<[u8; 16]>()).prop_map(|(peer, proof)| Member {
        peer,
        proof: MemberProof(proof),
    })
}

pub(crate) fn notice() -> impl Strategy<Value = Notice> {
    let servers = || vec(address(), 0..=MAX_STUN_SERVERS);
    prop_oneof![
        (
            address(),
            servers(),
            servers(),
            vec(any::<u16>(), 0..=64),
            extensions()
        )
            .prop_map(
                |(observed, stun_servers, stun_alternates, features, extensions)| {
                    Notice::Welcome(Welcome {
                        observed,
                        stun_servers,
                        stun_alternates,
                        features,
                        extensions,
                    })
                }
            ),
        introduction().prop_map(Notice::Introduction),
        flight().prop_map(Notice::Flight),
        (any::<[u8; 16]>(), any::<u32>()).prop_map(|(session, silent_ms)| {
            let session = SessionToken::from_bytes(session);
            Notice::Silent(Silent { session, silent_ms })
        }),
        (
            topic(),
            any::<bool>(),
            vec(member(), 0..=8),
            vec(peer(), 0..=8),
            extensions()
        )
            .prop_map(|(topic, missed, joined, left, extensions)| {
                Notice::Topic(TopicChanges {
                    topic,
                    missed,
                    joined,
                    left,
                    extensions,
                })
            }),
        (any::<u32>(), vec(bytes(), 0..=MAX_PLACES), extensions()).prop_map(
            |(stay_ms, to, extensions)| {
                Notice::Move(Move {
                    stay_ms,
                    to,
                    extensions,
                })
            }
        ),
        unknown().prop_map(Notice::Unknown),
    ]
}

/// Messages of kinds that nothing is assigned to.
fn unknown() -> impl Strategy<Value = Unknown> {
    (100..=u16::MAX, bytes()).prop_map(|(kind, fields)| Unknown { kind, fields })
}

fn extensions() -> impl Strategy<Value = Extensions> {
    let extension = (any::<u16>(), vec(any::<u8>(), 0..20));
    let extension = extension.prop_map(|(kind, value)| Extension { kind, value });
    vec(extension, 0..=4).prop_map(Extensions)
}

/// What peers add, and what messages do.
fn additions() -> impl Strategy<Value = (Vec<u8>, Extensions)> {
    (bytes(), extensions())
}

fn claim() -> impl Strategy<Value = ReflexiveClaim> {
    any::<(u8, [u8; 16])>().prop_map(|(punch_port, salt)| ReflexiveClaim {
        punch_port: PunchPort(punch_port),
        salt,
    })
}

fn flight() -> impl Strategy<Value = Flight> {
    (any::<[u8; 16]>(), bytes()).prop_map(|(session, bytes)| Flight {
        session: SessionToken::from_bytes(session),
        bytes,
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

pub(crate) fn introduction() -> impl Strategy<Value = Introduction> {
    let role = prop_oneof![Just(Role::Controlling), Just(Role::Controlled)];
    (
        any::<[u8; 16]>(),
        peer(),
        role,
        candidates(),
        nat(),
        any::<u32>(),
        bytes(),
        any::<u32>(),
        any::<(u8, bool)>(),
        additions(),
    )
        .prop_map(
            |(
                session,
                peer,
                role,
                candidates,
                nat,
                rtt_via_coordinator_us,
                handshake,
                serial,
                (witnessed, seen_together),
                (peer_extensions, extensions),
            )| {
                Introduction {
                    session: SessionToken::from_bytes(session),
                    peer,
                    role,
                    candidates,
                    nat,
                    rtt_via_coordinator_us,
                    handshake,
                    serial,
                    witnessed,
                    seen_together,
                    peer_extensions,
                    extensions,
                }
            },
        )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let unsupported = prop_oneof![
        any::<u16>().prop_map(Unsupported::Request),
        any::<u16>().prop_map(Unsupported::Extension),
        any::<u16>().prop_map(Unsupported::DialPolicy),
    ];
    let reason = prop_oneof![
        Just(RefusalReason::Unavailable),
        Just(RefusalReason::OwnId),
        Just(RefusalReason::TooMany),
        Just(RefusalReason::TooLarge),
        Just(RefusalReason::Full),
        unsupported.prop_map(RefusalReason::Unsupported),
        Just(RefusalReason::Other),
        Just(RefusalReason::Apart),
        prop_oneof![
            Just(Room::Peer),
            Just(Room::Network),
            Just(Room::Topic),
            Just(Room::Board),
        ]
        .prop_map(RefusalReason::NoRoom),
    ];
    (reason, any::<Option<u32>>(), extensions()).prop_map(|(reason, retry_after_ms, extensions)| {
        Refusal {
            reason,
            retry_after_ms,
            extensions,
        }
    })
}

fn policy() -> impl Strategy<Value = DialPolicy> {
    prop_oneof![
        Just(DialPolicy::Anyone),
        vec(peer(), 0..=8).prop_map(DialPolicy::Only),
        (100..=u16::MAX).prop_map(DialPolicy::Unknown),
    ]
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    vec(candidate(), 0..=MAX_CANDIDATES)
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let kind = prop_oneof![
        Just(CandidateKind::Host),
        Just(CandidateKind::ServerReflexive),
        Just(CandidateKind::Mapped),
        Just(CandidateKind::Predicted),
        Just(CandidateKind::PeerReflexive),
    ];
    let token =
        (any::<[u8; 16]>(), any::<u64>(), any::<[u8; 16]>()).prop_map(|(salt, expires_at, mac)| {
            ReflexiveToken {
                salt,
                expires_at,
                mac,
            }
        });
    (kind, address(), any::<u8>(), option::of(token)).prop_map(
        |(kind, address, punch_port, token)| Candidate {
            kind,
            address,
            punch_port: PunchPort(punch_port),
            token,
        },
    )
}

/// Scope and flow label of IPv6 addresses mean something on one host only and are not sent.
fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

fn peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 32]>().prop_map(PeerId::from_public_key)
}

fn nat() -> impl Strategy<Value = NatReport> {
    let mapping = prop_oneof![
        Just(NatMapping::EndpointIndependent),
        Just(NatMapping::AddressDependent),
        Just(NatMapping::AddressAndPortDependent),
    ];
    let filtering = prop_oneof![
        Just(NatFiltering::EndpointIndependent),
        Just(NatFiltering::AddressDependent),
        Just(NatFiltering::AddressAndPortDependent),
    ];
    let ports = prop_oneof![
        Just(PortAssignment::Preserved),
        any::<u16>().prop_map(|delta| PortAssignment::Sequential { delta }),
        any::<(u16, u16)>().prop_map(|(first, last)| PortAssignment::Random { first, last }),
    ];
    let unsolicited = prop_oneof![
        Just(UnsolicitedSyn::Dropped),
        Just(UnsolicitedSyn::Reset),
        Just(UnsolicitedSyn::Icmp),
    ];
    (
        option::of(mapping),
        option::of(ports),
        option::of(filtering),
        option::of(unsolicited),
        any::<Option<bool>>(),
    )
        .prop_map(
            |(mapping, ports, filtering, unsolicited, hairpinning)| NatReport {
                mapping,
                ports,
                filtering,
                unsolicited,
                hairpinning,
            },
        )
}
