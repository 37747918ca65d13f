//! Tests of what is answered to datagrams.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use proptest::prelude::*;

use super::*;

/// The headers of a Binding request, as of RFC 8489 and as of RFC 3489.
const REQUEST: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
const CLASSIC: [u8; 20] = *b"\x00\x01\x00\x00ABCDabcdefghijkl";

/// What 203.0.113.7:40000 is, and the same with the cookie over it.
const MAPPED: &[u8] = b"\x00\x01\x00\x08\x00\x01\x9c\x40\xcb\x00\x71\x07";
const XOR_MAPPED: &[u8] = b"\x00\x20\x00\x08\x00\x01\xbd\x52\xea\x12\xd5\x45";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn quad() -> Quad {
    Quad {
        one: at("192.0.2.1:3478"),
        other: at("192.0.2.2:3479"),
    }
}

fn with(header: [u8; 20], attributes: &[u8]) -> Vec<u8> {
    let mut message = [&header[..], attributes].concat();
    message[3] = attributes.len().try_into().unwrap();
    message
}

fn sent_to(bytes: &[u8], quad: Option<Quad>) -> Option<Reply> {
    let arrival = Arrival {
        bytes,
        from: at("203.0.113.7:40000"),
        at: at("192.0.2.1:3478"),
        quad,
    };
    reply(arrival, &StunServerConfig::default(), 0)
}

fn is_error(reply: &Reply) -> bool {
    reply.bytes[..2] == *b"\x01\x11"
}

#[test]
fn a_server_with_one_address_says_where_the_client_was_seen_and_no_more() {
    let plain = sent_to(&REQUEST, None).unwrap();
    let expected = [b"\x01\x01\x00\x0c", &REQUEST[4..], XOR_MAPPED].concat();
    assert_eq!(plain.bytes, expected);
    assert_eq!(plain.by, at("192.0.2.1:3478"));
    assert_eq!(plain.to, at("203.0.113.7:40000"));
    let classic = sent_to(&CLASSIC, None).unwrap();
    let expected = [b"\x01\x01\x00\x0c", &CLASSIC[4..], MAPPED].concat();
    assert_eq!(classic.bytes, expected);
}

#[test]
fn one_with_four_says_where_the_answer_comes_from_and_what_is_elsewhere() {
    let addresses = |origin: u16, other: u16| {
        let [high, low] = origin.to_be_bytes();
        let mut all = vec![high, low];
        all.extend(b"\x00\x08\x00\x01\x0d\x96\xc0\x00\x02\x01");
        all.extend(other.to_be_bytes());
        all.extend(b"\x00\x08\x00\x01\x0d\x97\xc0\x00\x02\x02");
        all
    };
    let modern = sent_to(&REQUEST, Some(quad())).unwrap();
    let places = addresses(0x802b, 0x802c);
    let head = [b"\x01\x01\x00\x30", &REQUEST[4..]].concat();
    assert_eq!(
        modern.bytes,
        [&head[..], XOR_MAPPED, MAPPED, &places].concat()
    );
    let classic = sent_to(&CLASSIC, Some(quad())).unwrap();
    let places = addresses(0x0004, 0x0005);
    let head = [b"\x01\x01\x00\x24", &CLASSIC[4..]].concat();
    assert_eq!(classic.bytes, [&head[..], MAPPED, &places].concat());
}

#[test]
fn an_answer_comes_from_where_it_is_wished() {
    for header in [REQUEST, CLASSIC] {
        for (flags, by) in [
            (0, "192.0.2.1:3478"),
            (2, "192.0.2.1:3479"),
            (4, "192.0.2.2:3478"),
            (6, "192.0.2.2:3479"),
        ] {
            let request = with(header, &[0, 3, 0, 4, 0, 0, 0, flags]);
            let reply = sent_to(&request, Some(quad())).unwrap();
            assert!(!is_error(&reply));
            assert_eq!(reply.by, at(by));
            let plain = sent_to(&request, None).unwrap();
            assert_eq!(is_error(&plain), flags != 0, "there is nothing to change");
        }
    }
    let request = with(REQUEST, b"\x00\x27\x00\x04\x30\x39\x00\x00");
    let reply = sent_to(&request, Some(quad())).unwrap();
    assert_eq!(reply.to, at("203.0.113.7:12345"));
    assert!(is_error(&sent_to(&request, None).unwrap()));
}

#[test]
fn what_is_refused_comes_from_where_it_was_asked_and_goes_to_who_asked() {
    let change_request = b"\x00\x03\x00\x04\x00\x00\x00\x06";
    for unknown in [
        // PADDING, which asks for long answers, and RESPONSE-ADDRESS, which asks for them
        // elsewhere.
        &b"\x00\x26\x00\x00"[..],
        b"\x00\x02\x00\x08\x00\x01\x00\x50\xc6\x33\x64\x01",
        // A RESPONSE-PORT that names none.
        b"\x00\x27\x00\x04\x00\x00\x00\x00",
    ] {
        for header in [REQUEST, CLASSIC] {
            let request = with(header, &[change_request, unknown].concat());
            let reply = sent_to(&request, Some(quad())).unwrap();
            assert!(is_error(&reply));
            assert!(
                reply
                    .bytes
                    .ends_with(&[0x00, 0x0a, 0, 2, 0, unknown[1], 0, 0])
            );
            assert_eq!(reply.by, at("192.0.2.1:3478"));
            assert_eq!(reply.to, at("203.0.113.7:40000"));
        }
    }
}

#[test]
fn others_are_told_the_addresses_that_lead_here() {
    let mut config = StunServerConfig::default();
    config
        .known_as
        .insert(quad().other.ip(), [198, 51, 100, 2].into());
    let arrival = Arrival {
        bytes: &REQUEST,
        from: at("203.0.113.7:40000"),
        at: quad().one,
        quad: Some(quad()),
    };
    let reply = reply(arrival, &config, 0).unwrap();
    let other = b"\x80\x2c\x00\x08\x00\x01\x0d\x97\xc6\x33\x64\x02";
    assert!(reply.bytes.ends_with(other));
    assert_eq!(reply.by, quad().one);
}

/// Its source may be forged, and its mapping is none of TCP.
#[test]
fn a_datagram_proves_no_address() {
    let config = StunServerConfig {
        token_key: Some(p2pconnect_proto::TokenKey::from_bytes([1; 32])),
        ..StunServerConfig::default()
    };
    let peer = p2pconnect_proto::PeerId::from_public_key([7; 32]);
    let commitment = crate::Commitment::new([2; 16], &peer);
    let (_, request) = crate::binding::request(Some(&commitment));
    let arrival = Arrival {
        bytes: &request,
        from: at("203.0.113.7:40000"),
        at: quad().one,
        quad: None,
    };
    let reply = reply(arrival, &config, 0).unwrap();
    assert_eq!(reply.bytes.len(), 32);
}

#[test]
fn only_whole_binding_requests_are_answered() {
    let wrong_fingerprint = with(REQUEST, b"\x80\x28\x00\x04abcd");
    let padded = [&REQUEST[..], b"\0\0\0\0"].concat();
    for bytes in [
        &b""[..],
        b"\x00\x01",
        &REQUEST[..19],
        &padded,
        // One indication and both responses.
        &[&[0x00, 0x11], &REQUEST[2..]].concat(),
        &[&[0x01, 0x01], &REQUEST[2..]].concat(),
        &[&[0x01, 0x11], &CLASSIC[2..]].concat(),
        &wrong_fingerprint,
        // A query by DNS, and the beginning of a handshake by QUIC.
        b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01",
        &[0xc3; 1200],
    ] {
        assert_eq!(sent_to(bytes, Some(quad())), None, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn no_answer_is_long_or_answered(
        header in prop::sample::select(vec![REQUEST, CLASSIC]),
        kinds in prop::collection::vec((any::<u16>(), any::<[u8; 4]>()), 0..20),
    ) {
        let attribute = |(kind, value): &(u16, [u8; 4])| {
            [&kind.to_be_bytes()[..], &[0, 4], value].concat()
        };
        let request = with(header, &kinds.iter().flat_map(attribute).collect::<Vec<_>>());
        if let Some(reply) = sent_to(&request, Some(quad())) {
            // With the headers of IPv4 and UDP: as in other servers, twice what has come at most.
            prop_assert!(reply.bytes.len() + 28 <= 2 * (request.len() + 28));
            prop_assert_eq!(sent_to(&reply.bytes, Some(quad())), None);
        }
    }
}
