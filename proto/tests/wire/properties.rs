//! Whatever is encoded is decoded to the same, and whatever else is decoded does no harm.

use std::fmt::Debug;

use p2pconnect_proto::{
    Candidate, NatFiltering, NatMapping, NatReport, PeerId, PortAssignment, PunchPort,
    ReflexiveToken, UnsolicitedSyn,
    codec::{self, DecodeError, EncodeError, HEADER_LEN, MAX_BODY, Message, VERSION},
    message::{
        DialPolicy, MAX_ALLOWED_PEERS, MAX_CANDIDATES, MAX_HANDSHAKE, Notice, Registration,
        Request, Response,
    },
};
use proptest::prelude::*;

use crate::strategies::{introduction, notice, request, response};

/// Takes a frame apart as a receiver does.
fn body_of(frame: &[u8]) -> &[u8] {
    let (header, body) = frame.split_first_chunk::<HEADER_LEN>().unwrap();
    assert_eq!(codec::body_len(*header), Ok(body.len()));
    body
}

fn check<M: Message + PartialEq + Debug>(message: &M) {
    let frame = codec::encode(message).unwrap();
    let body = body_of(&frame);
    assert_eq!(codec::decode::<M>(body).as_ref(), Ok(message));

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
    for found in (0..=u8::MAX).filter(|&version| version != VERSION) {
        let mut other = body.to_vec();
        other[0] = found;
        assert_eq!(
            codec::decode::<M>(&other),
            Err(DecodeError::Version { found })
        );
    }
}

fn decode_as_everything(bytes: &[u8]) {
    // Whatever is accepted is written again as the same bytes: there is one encoding only.
    fn decode<M: Message>(bytes: &[u8]) {
        if let Ok(message) = codec::decode::<M>(bytes) {
            let frame = codec::encode(&message).unwrap();
            assert_eq!(&frame[HEADER_LEN..], bytes);
        }
    }
    decode::<Request>(bytes);
    decode::<Response>(bytes);
    decode::<Notice>(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_round_trip_and_nothing_near_them_passes(message in request()) {
        check(&message);
    }

    #[test]
    fn responses_round_trip_and_nothing_near_them_passes(message in response()) {
        check(&message);
    }

    #[test]
    fn notices_round_trip_and_nothing_near_them_passes(message in notice()) {
        check(&message);
    }
}

proptest! {
    /// As a coordinator may say it that lies.
    #[test]
    fn an_introduction_is_cut_to_what_a_peer_can_mean(
        mut introduction in introduction(),
        candidates in 0_usize..800,
        handshake in 0_usize..60_000,
    ) {
        let all = introduction.candidates.iter().cycle().take(candidates);
        introduction.candidates = all.cloned().collect();
        introduction.handshake = vec![0; handshake];
        let cut = introduction.well_formed();
        prop_assert!(cut.candidates.len() <= MAX_CANDIDATES);
        let is_meant = handshake <= MAX_HANDSHAKE;
        prop_assert_eq!(cut.handshake.len(), if is_meant { handshake } else { 0 });
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        decode_as_everything(&bytes);
        let versioned = [&[VERSION], &bytes[..]].concat();
        decode_as_everything(&versioned);
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
    let body = vec![VERSION; length];
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
    });
    let frame = codec::encode(&message).unwrap();
    assert!(frame.len() < 35 * 1024, "{} bytes", frame.len());
    assert_eq!(codec::decode(body_of(&frame)), Ok(message));
}

#[test]
fn a_message_beyond_the_limit_is_not_sent() {
    let request = |peers: usize| {
        Request::Register(Registration {
            serial: 1,
            candidates: Vec::new(),
            nat: Default::default(),
            policy: DialPolicy::Only(vec![PeerId::from_public_key([0; 32]); peers]),
        })
    };
    // Version, two discriminants, a number, two lengths and five unknowns precede the peer ids.
    let fits = (MAX_BODY - 1 - 4 - 4 - 8 - 5 - 4 - 8) / 32;
    assert!(codec::encode(&request(fits)).is_ok());
    assert_eq!(codec::encode(&request(fits + 1)), Err(EncodeError::TooLong));
}

#[test]
fn unknown_variants_are_malformed_wherever_they_are() {
    let message = Request::Register(Registration {
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
    });
    let frame = codec::encode(&message).unwrap();
    let body = body_of(&frame);
    // Where each tag is, and the lowest value that nothing is assigned to.
    for (what, at, unassigned) in [
        ("request", 1, 4_u32),
        ("candidate kind", 13, 5),
        ("address family", 17, 2),
        ("mapping", 30, 3),
        ("port assignment", 35, 3),
        ("filtering", 40, 3),
        ("unsolicited SYN", 45, 3),
        ("policy", 51, 2),
    ] {
        for value in [unassigned, u32::MAX] {
            let mut body = body.to_vec();
            body[at..at + 4].copy_from_slice(&value.to_be_bytes());
            let decoded = codec::decode::<Request>(&body);
            assert_eq!(decoded, Err(DecodeError::Malformed), "{what} {value}");
        }
    }
    for (what, at) in [
        ("token's presence", 28),
        ("mapping's presence", 29),
        ("port assignment's presence", 34),
        ("filtering's presence", 39),
        ("unsolicited SYN's presence", 44),
        ("hairpinning's presence", 49),
        ("hairpinning", 50),
    ] {
        for value in [2, u8::MAX] {
            let mut body = body.to_vec();
            body[at] = value;
            let decoded = codec::decode::<Request>(&body);
            assert_eq!(decoded, Err(DecodeError::Malformed), "{what} {value}");
        }
    }
}
