//! Whatever is encoded is decoded to the same, and whatever else is decoded does no harm.

use std::fmt::Debug;

use p2pconnect_proto::{
    Candidate, NatFiltering, NatMapping, NatReport, PeerId, PortAssignment, PunchPort,
    ReflexiveToken, SessionToken, UnsolicitedSyn,
    codec::{self, DecodeError, EncodeError, HEADER_LEN, MAX_BODY, Wire},
    message::{
        DialPolicy, Extensions, MAX_ALLOWED_PEERS, MAX_CANDIDATES, MAX_HANDSHAKE,
        MAX_PEER_EXTENSIONS, Notice, Refusal, RefusalReason, Registration, Request, Response,
        Silent, Unknown,
    },
    nodes::NodeMessage,
};
use proptest::prelude::*;

use crate::strategies::{introduction, notice, request, response};

/// Takes a frame apart as a receiver does.
fn body_of(frame: &[u8]) -> &[u8] {
    let (header, body) = frame.split_first_chunk::<HEADER_LEN>().unwrap();
    assert_eq!(codec::body_len(*header), Ok(body.len()));
    body
}

fn check<M: Wire + PartialEq + Debug>(message: &M, unknown: Option<&Unknown>) {
    let frame = codec::encode(message).unwrap();
    let body = body_of(&frame);
    assert_eq!(codec::decode::<M>(body).as_ref(), Ok(message));
    if let Some(unknown) = unknown {
        // Everything behind the kind belongs to it.
        let written = [&unknown.kind.to_be_bytes(), &unknown.fields[..]].concat();
        assert_eq!(body, written);
        return;
    }
    for len in 0..body.len() {
        let error = codec::decode::<M>(&body[..len]).unwrap_err();
        let expected = if len == 0 {
            DecodeError::Empty
        } else {
            DecodeError::Malformed
        };
        assert_eq!(error, expected, "cut to {len} of {} bytes", body.len());
    }
    for count in [1, 2, 100] {
        let longer = [body, &vec![0; count]].concat();
        assert_eq!(
            codec::decode::<M>(&longer),
            Err(DecodeError::TrailingBytes { count })
        );
    }
}

fn decode_as_everything(bytes: &[u8]) {
    // Whatever is understood is written so that it is understood the same.
    fn decode<M: Wire + PartialEq + Debug>(bytes: &[u8]) {
        if let Ok(message) = codec::decode::<M>(bytes) {
            let frame = codec::encode(&message).unwrap();
            assert_eq!(codec::decode::<M>(&frame[HEADER_LEN..]), Ok(message));
        }
    }
    decode::<Request>(bytes);
    decode::<Response>(bytes);
    decode::<Notice>(bytes);
    decode::<NodeMessage>(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_round_trip_and_nothing_near_them_passes(message in request()) {
        let unknown = if let Request::Unknown(unknown) = &message {
            Some(unknown)
        } else {
            None
        };
        check(&message, unknown);
    }

    #[test]
    fn responses_round_trip_and_nothing_near_them_passes(message in response()) {
        let unknown = if let Response::Unknown(unknown) = &message {
            Some(unknown)
        } else {
            None
        };
        check(&message, unknown);
    }

    #[test]
    fn notices_round_trip_and_nothing_near_them_passes(message in notice()) {
        let unknown = if let Notice::Unknown(unknown) = &message {
            Some(unknown)
        } else {
            None
        };
        check(&message, unknown);
    }
}

proptest! {
    /// As a coordinator may say it that lies.
    #[test]
    fn an_introduction_is_cut_to_what_a_peer_can_mean(
        mut introduction in introduction(),
        candidates in 0_usize..800,
        handshake in 0_usize..60_000,
        peer_extensions in 0_usize..2_000,
    ) {
        let all = introduction.candidates.iter().cycle().take(candidates);
        introduction.candidates = all.cloned().collect();
        introduction.handshake = vec![0; handshake];
        introduction.peer_extensions = vec![0; peer_extensions];
        let cut = introduction.well_formed();
        prop_assert!(cut.candidates.len() <= MAX_CANDIDATES);
        let is_meant = handshake <= MAX_HANDSHAKE;
        prop_assert_eq!(cut.handshake.len(), if is_meant { handshake } else { 0 });
        let is_meant = peer_extensions <= MAX_PEER_EXTENSIONS;
        prop_assert_eq!(cut.peer_extensions.len(), if is_meant { peer_extensions } else { 0 });
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        decode_as_everything(&bytes);
        drop(Extensions::of_peer(&bytes));
    }

    #[test]
    fn spoilt_messages_never_panic(
        message in notice(),
        spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let frame = codec::encode(&message).unwrap();
        let mut body = body_of(&frame).to_vec();
        for (index, value) in spoilt {
            let at = index.index(body.len());
            body[at] = value;
        }
        decode_as_everything(&body);
    }

    #[test]
    fn every_header_is_read_or_refused(header: [u8; HEADER_LEN]) {
        let length = u32::from_be_bytes(header) as usize;
        let expected = match length {
            0 => Err(DecodeError::Empty),
            1..=MAX_BODY => Ok(length),
            _ => Err(DecodeError::TooLong { length }),
        };
        prop_assert_eq!(codec::body_len(header), expected);
    }
}

#[test]
fn headers_end_where_the_limit_is() {
    let header = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    assert_eq!(codec::body_len(header(1)), Ok(1));
    assert_eq!(codec::body_len(header(MAX_BODY)), Ok(MAX_BODY));
    let length = MAX_BODY + 1;
    assert_eq!(
        codec::body_len(header(length)),
        Err(DecodeError::TooLong { length })
    );
    let body = vec![0; length];
    assert_eq!(
        codec::decode::<Request>(&body),
        Err(DecodeError::TooLong { length })
    );
}

#[test]
fn the_longest_lists_allowed_fit_a_frame() {
    let token = ReflexiveToken {
        salt: [1; 16],
        expires_at: u64::MAX,
        mac: [2; 16],
    };
    let address = ([0x2001, 0xDB8, 0, 0, 0, 0, 0, 1], u16::MAX).into();
    let candidate = Candidate::server_reflexive(address, PunchPort::SPARE, Some(token));
    let message = Request::Register(Registration {
        serial: 1,
        candidates: vec![candidate; MAX_CANDIDATES],
        nat: NatReport {
            mapping: Some(NatMapping::AddressDependent),
            ports: Some(PortAssignment::Preserved),
            ..NatReport::default()
        },
        policy: DialPolicy::Only(vec![PeerId::from_public_key([3; 32]); MAX_ALLOWED_PEERS]),
        peer_extensions: vec![4; MAX_PEER_EXTENSIONS],
        extensions: Extensions::default(),
    });
    let frame = codec::encode(&message).unwrap();
    assert!(frame.len() < 36 * 1024, "{} bytes", frame.len());
    assert_eq!(codec::decode(body_of(&frame)), Ok(message));
}

#[test]
fn a_message_beyond_the_limit_is_not_sent() {
    let settled = |fields: usize| {
        Request::Unknown(Unknown {
            kind: u16::MAX,
            fields: vec![0; fields],
        })
    };
    let fits = MAX_BODY - 2;
    assert!(codec::encode(&settled(fits)).is_ok());
    assert_eq!(codec::encode(&settled(fits + 1)), Err(EncodeError::TooLong));
    // Lists and bytes that are too long for the number in front of them.
    let peers = vec![PeerId::from_public_key([0; 32]); 1 << 16];
    let mut message = registration();
    message.policy = DialPolicy::Only(peers);
    assert_eq!(codec::encode(&message), Err(EncodeError::TooLong));
    let mut message = registration();
    message.peer_extensions = vec![0; 1 << 16];
    assert_eq!(codec::encode(&message), Err(EncodeError::TooLong));
}

/// A registration that says everything once.
fn registration() -> Registration {
    Registration {
        serial: 1,
        candidates: vec![Candidate::host(
            ([192, 0, 2, 1], 1).into(),
            PunchPort::PRIMARY,
        )],
        nat: NatReport {
            mapping: Some(NatMapping::EndpointIndependent),
            ports: Some(PortAssignment::Preserved),
            filtering: Some(NatFiltering::EndpointIndependent),
            unsolicited: Some(UnsolicitedSyn::Dropped),
            hairpinning: Some(true),
        },
        policy: DialPolicy::Anyone,
        peer_extensions: Vec::new(),
        extensions: Extensions::default(),
    }
}

/// Returns what a registration is understood as in which the bytes from `at` are others.
fn with(at: usize, bytes: &[u8]) -> Registration {
    let mut body = body_of(&codec::encode(&registration()).unwrap()).to_vec();
    body[at..at + bytes.len()].copy_from_slice(bytes);
    codec::decode(&body).unwrap()
}

#[test]
fn what_is_unknown_counts_as_not_said() {
    type Said = fn(&mut Registration, u16);
    // Where each number is, and the lowest that nothing is assigned to.
    let numbers: [(usize, u16, Said); 6] = [
        (4, 5, |it, _| it.candidates.clear()),
        (18, 3, |it, _| it.nat.mapping = None),
        (23, 3, |it, _| it.nat.ports = None),
        (26, 3, |it, _| it.nat.filtering = None),
        (29, 3, |it, _| it.nat.unsolicited = None),
        (35, 2, |it, number| it.policy = DialPolicy::Unknown(number)),
    ];
    for (at, unassigned, said) in numbers {
        for number in [unassigned, u16::MAX] {
            let mut expected = registration();
            said(&mut expected, number);
            assert_eq!(
                with(at, &number.to_be_bytes()),
                expected,
                "{number} at {at}"
            );
        }
        assert_eq!(with(at, &[0, 0]), registration());
    }
}

#[test]
fn what_cannot_be_read_where_its_end_is_known_counts_as_not_said() {
    let (address_family, token) = (6, 14);
    for (at, value) in [(address_family, 5), (token, 2), (token, 1)] {
        assert_eq!(with(at, &[value]).candidates, [], "{value} at {at}");
    }
    // Each presence in the report, and the one value that is a bool.
    for at in [17, 20, 25, 28, 31, 32] {
        assert_eq!(with(at, &[2]).nat, NatReport::default(), "at {at}");
    }
}

#[test]
fn what_follows_known_fields_in_their_length_is_passed_over() {
    let plain = codec::encode(&registration()).unwrap();
    let plain = body_of(&plain);
    // The lengths of the candidate, of the report and of the policy.
    for at in [2, 15, 33] {
        let [high, low] = plain[at..at + 2] else {
            panic!("a length has two bytes")
        };
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        let longer = [&plain[..end], &[7; 3], &plain[end..]].concat();
        let mut longer = longer;
        longer[at + 1] += 3;
        assert_eq!(codec::decode(&longer), Ok(registration()), "at {at}");
    }
}

#[test]
fn an_unknown_refusal_is_the_general_one() {
    let refused = |reason: &[u8]| {
        let length = u16::try_from(reason.len()).unwrap().to_be_bytes();
        let retry_after = [1, 0, 0, 0, 9];
        let body = [&[0, 2], &length[..], reason, &retry_after, &[0, 0]].concat();
        codec::decode::<Response>(&body)
    };
    let expected = |reason| {
        Ok(Response::Refused(Refusal {
            retry_after_ms: Some(9),
            ..Refusal::from(reason)
        }))
    };
    for reason in [&[0, 8][..], &[0xFF, 0xFF, 1, 2, 3], &[0, 5, 0, 99, 0, 0]] {
        assert_eq!(
            refused(reason),
            expected(RefusalReason::Other),
            "{reason:?}"
        );
    }
    assert_eq!(refused(&[0, 2, 8, 8]), expected(RefusalReason::TooMany));
}

#[test]
fn what_is_wrong_where_nothing_is_unknown_is_malformed() {
    let silent = codec::encode(&Notice::Silent(Silent {
        session: SessionToken::from_bytes([1; 16]),
        silent_ms: 1,
    }))
    .unwrap();
    let body = body_of(&silent);
    for kind in [0, 1, 2] {
        let changed = [&[0, kind], &body[2..]].concat();
        let decoded = codec::decode::<Notice>(&changed);
        assert!(decoded.is_err(), "{decoded:?}");
    }
    assert_eq!(codec::decode::<Notice>(&[0]), Err(DecodeError::Malformed));
}
